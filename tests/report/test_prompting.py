"""The report shows prompts beside the tuned model, and answers whether tuning was needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgetune.artifact import Artifact
from edgetune.report.build import write_report
from edgetune.report.prompting import find_prompting, prompting_rows
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


def test_a_run_without_prompts_has_no_rows() -> None:
    assert find_prompting(None) is None
    assert prompting_rows({}) == []
