"""The sentences and verdicts follow from the figures, also from the awkward ones."""

from __future__ import annotations

import pytest

from edgetune.report.findings import find_headline
from edgetune.report.format import milliseconds, percent, rate, round_form, size, small, times
from edgetune.report.tables import model_rows, speed_settings

from .conftest import MODELS, make_model

ALL = [make_model(row) for row in MODELS]


def chosen(name: str) -> dict:
    return next(model for model in ALL if model["name"] == name)


def score(role: str, value: float, low: float, high: float) -> dict:
    model = make_model((role, role, "hf", "BF16", 1.0, value, 0.1, 1.0))
    model["measurements"][0]["ci95"] = [low, high]
    return model


def test_headline_is_the_smallest_file_that_loses_no_more_than_two_points() -> None:
    found = find_headline(ALL)
    assert found["model"] == "quickstart-Q5_K_M.gguf"  # Q4_K_M is smaller and loses 2.6 points
    assert found["difference"] == pytest.approx(-0.02)
    assert found["ratio"] == pytest.approx(20.31 / 4.21, rel=1e-3)
    assert found["outcome"] == "open"  # 300 rows that are not paired are too few to be sure
    assert found["text"] == (
        "Q5_K_M perhaps keeps the score in 4.21\u202fMB, 4.8× smaller: 94.3\u202f% exact match, "
        "the teacher’s 96.3\u202f%."
    )


def test_headline_is_certain_where_paired_rows_make_it_so() -> None:
    pair = {
        "reference": "teacher", "candidate": "quickstart-Q5_K_M.gguf", "metric": "exact_match",
        "difference": -0.01, "ci95": [-0.019, -0.001], "n": 300,
    }  # fmt: skip
    found = find_headline(ALL, evaluation={"differences": [pair], "commonest": 0.01})
    assert (found["model"], found["outcome"]) == ("quickstart-Q5_K_M.gguf", "kept")
    assert found["text"].startswith("Q5_K_M keeps the score in 4.21")
    assert found["ci95"] == [-0.019, -0.001]


def test_scores_above_one_hundred_percent_of_the_reference_are_not_written() -> None:
    teacher = score("teacher", 0.25, 0.20, 0.30)
    file = {**score("file", 0.5714, 0.52, 0.62), "name": "m-Q4_0.gguf", "scheme": "Q4_0"}
    text = find_headline([teacher, file])["text"]
    assert "57.1\u202f% exact match, the teacher’s 25.0\u202f%" in text
    assert "228.6" not in text


@pytest.mark.parametrize("value", [0.005, 0.03])
def test_nothing_is_kept_of_a_score_near_zero(value: float) -> None:
    teacher = score("teacher", value, 0.0, value + 0.02)
    found = find_headline([teacher, chosen("quickstart-Q6_K.gguf")])
    assert "outcome" not in found and "keeps the score" not in found["text"]
    assert "too low to say that a file keeps it" in found["note"]


def test_nothing_is_kept_of_a_score_that_the_commonest_answer_has_too() -> None:
    models = [score("teacher", 0.62, 0.56, 0.68), chosen("quickstart-Q6_K.gguf")]
    found = find_headline(models, evaluation={"commonest": 0.6})
    assert "the commonest answer alone would have 60.0\u202f%" in found["note"]
    assert "outcome" in find_headline(models, evaluation={"commonest": 0.5})


def test_headline_without_a_file_that_keeps_enough() -> None:
    found = find_headline(
        [chosen("teacher"), chosen("quickstart-int4"), chosen("quickstart-Q4_0.gguf")]
    )
    assert found["model"] == "quickstart-Q4_0.gguf"  # the better of the two, not the smaller
    assert "loses 4.6 points in 3.52" in found["text"]


def test_headline_without_a_task_speaks_of_tokens() -> None:
    models = [chosen("teacher"), chosen("quickstart-Q6_K.gguf")]
    bare = [
        {**m, "measurements": [x for x in m["measurements"] if x["name"] != "exact_match"]}
        for m in models
    ]
    assert "agrees with the teacher on 98.6\u202f% of answer tokens" in find_headline(bare)["text"]
    assert find_headline([])["model"] is None
    assert find_headline([chosen("base")])["model"] is None


def test_headline_of_a_reference_that_scores_nothing() -> None:
    teacher = score("teacher", 0.0, 0.0, 0.01)
    found = find_headline([teacher, chosen("quickstart-Q6_K.gguf")])
    assert found["score"] == "top1_answer_tokens"


def test_numbers_read_well() -> None:
    narrow = "\u202f"
    assert [size(v) for v in (0, 999, 2_140_000, 21_400_000, 1.5e9, None)] == [
        f"0{narrow}B",
        f"999{narrow}B",
        f"2.14{narrow}MB",
        f"21.4{narrow}MB",
        f"1.50{narrow}GB",
        "–",
    ]
    assert [milliseconds(v) for v in (0.456, 12.34, 1234)] == [
        f"456{narrow}µs",
        f"12.3{narrow}ms",
        f"1.23{narrow}s",
    ]
    assert [small(v) for v in (0.0, 0.0402, 1.9, 2.1e-8)] == ["0", "0.0402", "1.90", "2.1×10⁻⁸"]
    assert [rate(v) for v in (9.54, 96, 2010)] == ["9.54", "96.0", "2,010"]
    assert (percent(0.957), times(9.24)) == (f"95.7{narrow}%", "9.2×")
    assert [round_form(size)(v) for v in (5e6, 2.5e6, 100)] == [
        f"5{narrow}MB",
        f"2.5{narrow}MB",
        f"100{narrow}B",
    ]


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_a_score_that_is_the_same_for_all_decides_nothing(value: float) -> None:
    models = [
        {**m, "measurements": [
            {**x, "value": value} if x["name"] == "exact_match" else x for x in m["measurements"]
        ]}
        for m in ALL
    ]  # fmt: skip
    found = find_headline(models)
    assert found["score"] == "top1_answer_tokens"
    assert "agrees with the teacher on" in found["text"]
    assert f"Exact match is {percent(value)} for every model and says nothing" in found["text"]
    assert "KL divergence and perplexity" in found["note"]


def test_decoding_names_its_depth() -> None:
    deep = make_model(MODELS[5])
    for one in deep["measurements"]:
        one["where"] = {**one["where"], "prompt_tokens": 96, "new_tokens": 24}
    titles = [column.title for column in model_rows([deep])[0]]
    assert "Decode tok/s, depth\u00a096" in titles
    other = make_model(MODELS[6])
    assert "Decode tok/s" in [column.title for column in model_rows([deep, other])[0]]
    said = speed_settings([deep])
    assert "prompts of 96 tokens, answers of 24, CPU threads: 2" in said and "cache is f16" in said
    assert speed_settings([other]) == ""  # measured before settings were kept
