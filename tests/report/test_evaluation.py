"""The report grades the answers that bench kept, and runs nothing for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgetune.artifact import hash_file
from edgetune.errors import InputError
from edgetune.recipe import BenchSection, Recipe
from edgetune.report import evaluation
from edgetune.report.build import write_report
from edgetune.report.html import render_html

from .conftest import MODELS, SampleRun


def test_a_run_without_answers_has_no_evaluation(sample: SampleRun) -> None:
    assert sample.report()["evaluation"] is None
    assert not (sample.run.path / "report" / "flips.json").exists()


def test_the_report_holds_what_was_graded(answered: SampleRun) -> None:
    report = answered.report()
    found = report["evaluation"]
    assert found["task"]["name"] == "exact" and found["rows"] == 60
    assert [one["name"] for one in found["models"]] == [row[0] for row in MODELS]
    pairs = [(one["reference"], one["candidate"]) for one in found["differences"]]
    assert pairs[0] == ("base", "teacher") and ("teacher", "quickstart-Q4_0.gguf") in pairs
    assert len(found["flips"]) == len(MODELS) * (len(MODELS) - 1) / 2
    assert "exact_match" in report["definitions"]
    assert "right" not in found["models"][0]


def test_a_prompted_base_is_graded_as_any_model_and_taken_for_none(tmp_path: Path) -> None:
    run = SampleRun(tmp_path / "run")
    run.finish(run.answer(prompted=0.6))
    report = run.report()
    name, found = "base, 4 examples", report["evaluation"]
    (entry,) = [one for one in found["models"] if one["role"] == "prompted"]
    assert entry["name"] == name and entry["slices"]
    assert [one["value"] for one in entry["scores"]] == [0.6]
    assert "scores" not in found["models"][0]  # those of others are among their measurements
    against = {one["candidate"] for one in found["differences"] if one["reference"] == name}
    assert against == {"teacher", "merged"}
    flips = {(one["reference"], one["candidate"]): one for one in found["flips"]}
    assert flips[name, "teacher"]["gained"] == 58 - 36
    assert name not in {one["name"] for one in report["models"]}
    plain = SampleRun(tmp_path / "plain")
    without = plain.finish(plain.answer()).report()
    assert report["headline"] == without["headline"] and report["gates"] == without["gates"]

    flips_text = (run.run.path / "report" / "flips.json").read_text()
    page = render_html(report, flips_text)
    assert page.count("base, 4 examples → teacher") == 1
    scores = page.partition("Scores of every model")[2].partition("</table>")[0]
    assert "base, 4 examples" in scores and "60.0\u202f%" in scores
    write_report(report, tmp_path / "pages")
    assert "4 examples" not in (tmp_path / "pages" / "MODEL_CARD.md").read_text()


def test_flips_have_each_text_once_and_none_of_confidential_rows(tmp_path: Path) -> None:
    run = SampleRun(tmp_path / "open")
    run.finish(run.answer()).report()
    flips = json.loads((run.run.path / "report" / "flips.json").read_text())
    row = flips["rows"][59]
    assert row["expected"] == "lamp 59" and sorted(row["texts"]) == ["no <b>"]
    assert flips["rows"][0]["texts"] == ["lamp 0"]
    place = flips["models"].index("teacher")
    assert flips["rows"][57]["texts"][flips["rows"][57]["answers"][place]] == "lamp 57"
    assert flips["rows"][57]["right"][place] == 1

    secret = SampleRun(tmp_path / "secret")
    folder = secret.run.path / "report"
    folder.mkdir(parents=True)
    (folder / "flips.json").write_text("of an earlier recipe")
    report = secret.finish(secret.answer(confidential=True)).report()
    assert report["evaluation"]["confidential"] and report["evaluation"]["flips"]
    assert not (folder / "flips.json").exists()
    write_report(report, folder)
    for path in folder.iterdir():
        assert "light 7 " not in path.read_text(), path.name


def test_answers_are_graded_once_and_again_for_another_task(
    answered: SampleRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = answered.report()["evaluation"]
    calls = []
    real = evaluation.grade_predictions
    monkeypatch.setattr(
        evaluation, "grade_predictions", lambda *given: calls.append(given) or real(*given)
    )
    assert answered.report()["evaluation"] == first and not calls
    section = BenchSection(task="exact")
    answered.recipe = answered.recipe.model_copy(update={"bench": section})
    again = answered.report()["evaluation"]
    assert len(calls) == 1 and not again["task"]["guessed"]
    assert again["differences"] == first["differences"]


def test_rows_are_sliced_by_columns_of_the_file_they_came_from(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    lines = [
        {"prompt": "p", "completion": "c", "room": ["hall", "attic"][n < 45]} for n in range(60)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = SampleRun(tmp_path / "run")
    tree = run.recipe.model_dump(exclude_unset=True)
    tree |= {"data": {"train": str(file)}, "bench": {"slices": ["room"]}}
    run.recipe = Recipe.model_validate(tree)
    run.finish(run.answer(file=str(file)))
    run.artifacts["bench"].parents["train"] = hash_file(file)
    teacher = run.report()["evaluation"]["models"][1]
    found = {one["value"]: one for one in teacher["slices"] if one["column"] == "room"}
    assert (found["attic"]["n"], found["attic"]["value_of_metric"]) == (45, 1.0)
    assert (found["hall"]["n"], found["hall"]["value_of_metric"]) == (15, 13 / 15)

    file.write_text(file.read_text() + "\n")
    assert run.report()["evaluation"]["models"][1] == teacher  # as it was kept
    (run.run.path / "report" / "graded.json").unlink()
    with pytest.raises(InputError, match="have changed since"):
        run.report()
