"""Each measurement has one definition, and every page says it."""

from __future__ import annotations

import io
from pathlib import Path

from edgetune.measure.definitions import CHECKS, DEFINITIONS, MEASUREMENTS, RENAMED
from edgetune.report.build import write_report
from edgetune.report.terminal import print_summary
from tests.report.conftest import SampleRun


def test_old_names_lead_to_measurements_and_are_none() -> None:
    assert set(RENAMED.values()) <= set(MEASUREMENTS)
    assert not set(RENAMED) & set(DEFINITIONS)
    assert not set(MEASUREMENTS) & set(CHECKS)  # what export finds is never called as bench's is


def test_every_page_has_perplexity_and_definitions(tmp_path: Path) -> None:
    report = SampleRun(tmp_path / "run").finish().report()
    shown = {one["name"] for model in report["models"] for one in model["measurements"]}
    assert set(report["definitions"]) == shown | set(CHECKS)
    write_report(report, tmp_path / "pages")
    pages = {p.name: p.read_text() for p in (tmp_path / "pages").iterdir()}
    for name in ("report.md", "report.html"):
        assert "Definitions" in pages[name]
        assert all(one in pages[name] for one in shown)
    text = io.StringIO()
    print_summary(report, text)
    assert "ppl" in text.getvalue()
    for name in ("report.md", "report.html", "MODEL_CARD.md"):
        assert "Perplexity" in pages[name]


def test_bits_per_weight_is_one_number(tmp_path: Path) -> None:
    run = SampleRun(tmp_path / "run").finish()
    report = run.report()
    by_name = {file["name"]: file["bits_per_weight"] for file in report["files"]}
    for model in report["models"]:
        if model["role"] == "file":
            assert model.get("bits_per_weight") == by_name[model["name"]]
