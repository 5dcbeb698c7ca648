"""The report shows prompts beside the tuned model, and answers whether tuning was needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgetune.artifact import Artifact
from edgetune.report.build import write_report
from edgetune.report.evaluation import Evaluation
from edgetune.report.prompting import find_prompting, prompting_rows, prompting_titles
from tests.report.conftest import SampleRun

WHERE = {"runtime": "torch", "device": "cpu", "threads": 1}


def make_model(name: str, score: float, tokens: float, **more: Any) -> dict[str, Any]:
    figures = {"exact_match": score, "request_tokens": tokens, "request_ms_p50": 12.5}
    measured = [
        {"name": n, "value": v, "unit": "", "n": 50, "ci95": [v - 0.1, v + 0.1], "where": WHERE}
        for n, v in figures.items()
    ]
    return {"name": name, "model": name, "shots": 0, "system": False, "bytes": 4_000_000,
            "measurements": measured, **more}  # fmt: skip


FOUND = {
    "models": [
        make_model("base, 4 <b>examples", 0.4, 210.0,
                   difference={"difference": 0.5, "ci95": [0.38, 0.62], "n": 50}),
        {"name": "larger, zero-shot", "model": "larger", "shots": 0, "system": False, "bytes": 9,
         "measurements": [], "why": "no system role"},
        make_model("tuned", 0.9, 30.0),
    ],
    "best": "base, 4 <b>examples",
    "asked": 50,
}  # fmt: skip


def test_pages_say_whether_tuning_was_needed(tmp_path: Path) -> None:
    run = SampleRun(tmp_path / "run").finish()
    assert run.report()["prompting"] is None
    run.artifacts["bench"] = Artifact(
        run.artifacts["bench"].path, "measurements", "bench", "b",
        facts={"models": [], "prompting": FOUND},
    )  # fmt: skip
    report = run.report()
    assert report["prompting"]["verdict"].startswith("Tuning was needed.")
    assert {"request_tokens", "request_ms_p50"} <= set(report["definitions"])
    write_report(report, tmp_path / "pages")
    for name in ("report.md", "report.html"):
        page = (tmp_path / "pages" / name).read_text()
        for text in ("Prompting against tuning", "Tuning was needed", "+50.0 points", "210",
                     "larger, zero-shot is not measured: no system role"):  # fmt: skip
            assert text in page, (name, text)
    assert "4 <b>examples" not in (tmp_path / "pages" / "report.html").read_text()
    kept = json.loads((tmp_path / "pages" / "report.json").read_text())
    assert kept["prompting"]["best"] == FOUND["best"]


def graded(name: str, role: str, value: float, change: list[float] | None) -> dict[str, Any]:
    difference = change and {
        "metric": "chrf", "difference": sum(change) / 2, "ci95": change, "n": 50, "p_value": 0.01,
        "rows_needed": 9,
    }  # fmt: skip
    return {"name": name, "role": role, "metric": "chrf", "value": value, "n": 50,
            "ci95": [value - 1, value + 1], "difference": difference}  # fmt: skip


def find(prompts: list[dict[str, Any]], tmp_path: Path) -> dict[str, Any]:
    models = [
        make_model("base, zero-shot", 0.0, 20.0, difference={
            "difference": 0.5, "ci95": [0.4, 0.6], "n": 50}),
        make_model("base, 4 examples", 0.3, 210.0, difference={
            "difference": 0.2, "ci95": [0.1, 0.3], "n": 50}),
        make_model("tuned", 0.5, 30.0),
    ]  # fmt: skip
    facts = {"models": [], "prompting": {"models": models, "best": "base, 4 examples", "asked": 50}}
    bench = Artifact(tmp_path, "measurements", "bench", "b", facts=facts)
    definitions = {"chrf": {"title": "chrF", "unit": "", "text": ""}}
    found = find_prompting(bench, Evaluation({"prompts": prompts}, {}, definitions))
    assert found is not None
    return {"prompting": found, "definitions": definitions}


def test_prompts_are_compared_by_the_metric_that_answers_were_graded_by(tmp_path: Path) -> None:
    """A prompt whose answers are the base's has no answers of its own, and the base's score."""
    base, shown = (
        graded("base", "base", 52.0, [-3.0, -1.0]),
        graded("base, 4 examples", "prompted", 48.0, [1.0, 3.0]),
    )
    report = find([base, shown, graded("merged", "merged", 50.0, None)], tmp_path)
    found = report["prompting"]
    assert (found["metric"], found["best"]) == ("chrf", "base, zero-shot")
    assert found["verdict"].startswith(
        "Tuning was not needed: the prompt is better. The tuned model has 50.0 chrF on 50 test "
        "rows, the best prompt (base, zero-shot) 52.0:"
    )
    assert prompting_titles(report)[2] == ("chrF", "chrf")
    rows = dict(prompting_rows(report))
    assert [*rows] == ["base, zero-shot", "base, 4 examples", "tuned"]
    assert rows["base, 4 examples"][1:3] == ["48.0 (47–49)", "+2 (+1 to +3)"]


def test_prompts_are_compared_by_exact_match_where_one_was_not_graded(tmp_path: Path) -> None:
    report = find([graded("base", "base", 52.0, [-3.0, -1.0])], tmp_path)
    found = report["prompting"]
    assert (found["metric"], found["best"]) == ("exact_match", "base, 4 examples")
    assert "of 50 test rows exactly" in found["verdict"]
    assert prompting_titles(report)[2] == ("Exact match", "exact_match")
    assert "+20.0 points" in dict(prompting_rows(report))["base, 4 examples"][2]


def test_a_run_without_prompts_has_no_rows() -> None:
    assert find_prompting(None) is None
    assert prompting_rows({}) == []
