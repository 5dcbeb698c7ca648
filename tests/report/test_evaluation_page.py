"""The page answers first, defines every number, and keeps what is confidential to itself."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

import pytest

from edgetune.report.evaluation_view import CONFIDENTIAL, describe_difference
from edgetune.report.html import render_html
from edgetune.report.page_definitions import define_numbers
from edgetune.report.summary import answer_questions

from .conftest import SampleRun
from .large import HOSTILE, make_report
from .pages import check, without_scripts

NOT_MEASURED = {  # columns of texts, counts of rows and names, which define themselves
    "Verdict", "In words", "Over", "Token ids, or choice", "Source", "Split", "Rows", "Licence",
    "Origin", "Found", "Number", "Done", "Step of cleaning", "KV cache", "Answered",
}  # fmt: skip
Made = tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture
def made(sample: SampleRun) -> Made:
    return make_report(sample.report(), models=16, rows=300, labels=12)


def render(made: Made) -> str:
    return render_html(made[0], json.dumps(made[1], ensure_ascii=False))


def test_every_number_has_a_definition_and_n(made: Made) -> None:
    page = check(render(made))
    ids = {value for _, name, value in page.attributes if name == "id"}
    metrics = {value for _, name, value in page.attributes if name == "data-metric"}
    assert len(metrics) > 15 and metrics <= set(define_numbers(made[0]))
    assert {f"definition-{name}" for name in metrics} <= ids
    undefined = {
        (attributes.get("data-label"), text)
        for attributes, text in page.cells
        if re.search(r"\d", text) and not attributes.get("data-metric")
        and attributes.get("data-label") not in NOT_MEASURED
    }  # fmt: skip
    assert not undefined
    without_n = {
        attributes["data-metric"]
        for attributes, text in page.cells
        if re.search(r"\d", text) and attributes.get("data-metric") and not attributes["data-n"]
    }
    # This run was made without counts of its data: how many rows a validation had is not known.
    assert without_n <= {"curve_eval_loss"}


def test_definitions_say_how_many_observations_are_behind_a_number(made: Made) -> None:
    page = render(made)
    entry = page.partition('<dt id="definition-accuracy"')[2].partition("<dt")[0]
    assert "fraction of rows whose label is right" in entry.lower()
    assert "(n): 100 to 300" in entry  # slices of a third, and all rows


def test_the_page_says_whether_tuning_helped_and_shipping_kept_it(made: Made) -> None:
    report, _ = made
    answers = answer_questions(report, define_numbers(report))
    assert [one.question for one in answers] == [
        "Did tuning help?", "Did shipping keep it?", "Which file?", "May it ship?",
    ]  # fmt: skip
    assert answers[0].short == "Yes" and answers[3].short == "Pass"
    page = render(made)
    head = page.partition("<main")[0]
    for one in answers:
        assert one.question in head and f"<b>{one.short}</b>" in head
    assert head.count("data-metric=") > 8 and "n = 300" in head


@pytest.mark.parametrize(
    ("ends", "p_adjusted", "short", "kept"),
    [
        ([0.01, 0.05], 0.001, "Yes", "Yes, within 2 points"),
        ([0.01, 0.05], 0.2, "Not certain", "Yes, within 2 points"),
        ([-0.05, 0.05], 1.0, "Not certain", "Not certain"),
        ([-0.09, -0.03], 0.001, "No, it is worse", "It lost some"),
        ([-0.015, -0.005], 0.001, "No, it is worse", "Yes, within 2 points"),
    ],
)
def test_answers_say_what_the_interval_allows(
    made: Made, ends: list[float], p_adjusted: float, short: str, kept: str
) -> None:
    report, _ = made
    for one in report["evaluation"]["differences"]:
        one |= {"difference": sum(ends) / 2, "ci95": ends, "p_adjusted": p_adjusted}
    answers = answer_questions(report, define_numbers(report))
    assert [one.short for one in answers[:2]] == [short, kept]


def test_a_score_that_the_commonest_answer_has_too_is_not_called_kept(made: Made) -> None:
    report, _ = made
    report["evaluation"]["commonest"] = 0.99
    answers = answer_questions(report, define_numbers(report))
    assert answers[1].short == "Too low to tell"
    page = render(made)
    assert "commonest" in {v for _, n, v in check(page).attributes if n == "data-metric"}


def test_both_scores_stand_in_the_answer_and_in_the_key_figure(sample: SampleRun) -> None:
    report = sample.report()
    report["evaluation"] = None
    page = render_html(report)
    head = page.partition("<main")[0]
    assert "the teacher’s 96.3\u202f%" in head and "94.3\u202f%" in head
    assert "Score kept" not in page


def test_runs_without_grading_are_answered_from_exact_match(sample: SampleRun) -> None:
    report = sample.report()
    report["evaluation"] = None
    answers = answer_questions(report, define_numbers(report))
    assert answers[0].short == "Yes" and "exact match" in "".join(map(str, answers[0].sentence))
    page = render_html(report)
    assert "<h2>Flips</h2>" not in page and "Did tuning help?" in page


@pytest.mark.parametrize(
    ("one", "compared", "words"),
    [
        ({"difference": 0.0, "ci95": [-0.1, 0.1]}, 3, "No difference"),
        ({"difference": -0.1, "ci95": [-0.2, -0.01], "p_adjusted": 0.01}, 3,
         "Worse: certain among 3 comparisons"),
        ({"difference": 0.1, "ci95": [0.01, 0.2], "p_adjusted": 0.4}, 9,
         "Perhaps better: not certain among 9 comparisons"),
        ({"difference": 0.1, "ci95": [-0.01, 0.2], "p_adjusted": 0.4}, 1, "No difference found"),
        ({"difference": 0.1, "ci95": [0.01, 0.2], "metric": "perplexity"}, 1, "Worse: certain"),
    ],
)  # fmt: skip
def test_differences_are_told_in_words(one: dict[str, Any], compared: int, words: str) -> None:
    assert describe_difference({"metric": "accuracy", **one}, compared) == words


def test_texts_of_rows_cannot_write_markup(made: Made) -> None:
    report, flips = made
    report["evaluation"]["models"][0]["tables"][0]["rows"][0][0] = HOSTILE
    for model in report["evaluation"]["models"]:
        model["tables"][1]["rows"][0][0] = HOSTILE
        model["tables"][1]["columns"][1] = HOSTILE
        model["slices"][0]["value"] = HOSTILE
    report["evaluation"]["task"]["why"] = HOSTILE
    page = render((report, flips))
    check(page)
    bare = without_scripts(page)
    assert "<script" not in bare and "<img" not in bare
    data = re.search(r'id="flips-data">([^<]*)</script>', page)
    assert data and json.loads(data[1]) == flips
    assert HOSTILE in [row["prompt"] for row in json.loads(data[1])["rows"]]


def test_no_text_is_shown_where_rows_are_confidential(made: Made) -> None:
    report, flips = made
    report["evaluation"]["confidential"] = True
    page = render((report, flips))
    assert str(CONFIDENTIAL) in page and "<h2>Flips</h2>" in page
    assert "flips-data" not in page and "<script>// The browser of flips" not in page
    assert not [row for row in flips["rows"] if len(row["prompt"]) > 20 and row["prompt"] in page]


def test_the_policy_allows_our_scripts_alone(made: Made) -> None:
    page = render(made)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy and "default-src &#39;none&#39;" in policy[1]
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts]
    assert len(scripts) == 2 and re.findall(r"sha256-([\w+/=]+)", policy[1]) == hashes


def test_headings_follow_each_other_and_tables_are_named(made: Made) -> None:
    page = render(made)
    found = check(page)
    assert found.headings[0] == 1 and found.headings.count(1) == 1
    pairs = zip(found.headings, found.headings[1:], strict=False)
    assert all(after - before <= 1 for before, after in pairs)
    bare = without_scripts(page)
    assert bare.count("<table") == bare.count("<caption>") > 8
    assert bare.count("<th ") == bare.count("<th scope=") > 50
    assert bare.count("<svg viewBox") == bare.count("<title>") - 1 + bare.count(
        'aria-hidden="true"'
    )
    ids = [value for _, name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_many_labels_are_shown_by_their_most_confused_pairs(sample: SampleRun) -> None:
    report, flips = make_report(sample.report(), models=14, rows=3000, labels=60)
    page = render((report, flips))
    assert "Most confused pairs, 30 of" in page
    assert re.search(r"Confusion matrix: \d+ of 60 labels", page)
    assert page.count('class="heat"') == 1


def test_answers_that_bench_kept_are_shown(answered: SampleRun) -> None:
    report = answered.report()
    flips = (answered.run.path / "report" / "flips.json").read_text(encoding="utf-8")
    page = render_html(report, flips)
    metrics = {value for _, name, value in check(page).attributes if name == "data-metric"}
    assert metrics <= set(define_numbers(report))
    data = re.search(r'id="flips-data">([^<]*)</script>', page)
    assert data and json.loads(data[1]) == json.loads(flips)
    assert "n = 60" in page.partition("<main")[0]
