"""Report and card say where rows come from and what cleaning found, and quote no secret row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgetune.report.build import write_report
from edgetune.report.card import render_card
from edgetune.report.data import LEAK, list_cleaning, list_hub_datasets, list_origins
from edgetune.report.html import render_html
from edgetune.report.markdown import render_markdown

from .conftest import SampleRun
from .pages import without_scripts

HOSTILE = "<script>alert(1)</script> | `x`"
QUOTED = "rows.jsonl:3: unknown role 'our secret'"


def prepare_facts(confidential: bool = False) -> dict[str, Any]:
    own = {"confidential": True} if confidential else {}
    return {
        "data": {
            "rows": {"train": 1180, "validation": 60, "test": 60},
            "provenance": [
                {"split": "train", "path": "/home/me/rows.jsonl", "format": "messages",
                 "rows": 1000, "license": "CC-BY-4.0", "origin": HOSTILE, **own},
                {"split": "train", "path": "hf:owner/faq", "format": "messages", "rows": 300,
                 "revision": "0123456789abcdef"},
            ],
            "skipped_examples": [QUOTED],
            "found": {"pii": {"email": {"reported": 7}}, "encoding": {"mojibake": {"changed": 2}}},
            "similar": {
                "duplicates": {"rows": 60},
                "near_duplicates": {"rows": 5, "pairs": 9},
                "leakage": {"train_rows": 4, "test_rows": 3},
                "labels": {"rows": 2, "looked_at": 900, "agreement": 0.97},
            },
        },
        "tokens": {},
        "left_out": {"duplicates": {"equals": 60}},
    }  # fmt: skip


def make_report(sample: SampleRun, confidential: bool = False) -> dict[str, Any]:
    sample.add("prepare", "dataset", prepare_facts(confidential), {})
    return sample.report()


def test_pages_say_where_rows_come_from_and_what_was_found(sample: SampleRun) -> None:
    report = make_report(sample)
    for page in (render_html(report), render_markdown(report)):
        for words in ("rows.jsonl", "CC-BY-4.0", "hf:owner/faq", "not stated", "1,180", LEAK):
            assert words in page
        assert "Left out or changed: duplicates 60." in page
        assert "/home/me" not in page and "(confidential)" not in page
    assert "<script" not in without_scripts(render_html(report))
    assert "| pii | email | 7 | left as they are |" in render_markdown(report)
    assert "| duplicates | train rows | 60 | left out |" in render_markdown(report)
    assert "| labels | suspicious labels | 2 | listed |" in render_markdown(report)
    assert ("near_duplicates", "train rows", 5, "kept") in list_cleaning(report["data"])


def test_card_lists_datasets_with_licence_and_origin(sample: SampleRun) -> None:
    card = render_card(make_report(sample, confidential=True))
    assert yaml.safe_load(card.split("---\n")[1])["datasets"] == ["owner/faq"]
    assert (
        "## Data" in card and "| `rows.jsonl` | train, confidential | 1,000 | CC-BY-4.0 |" in card
    )
    assert "| `hf:owner/faq@0123456789ab` | train | 300 | not stated | – |" in card
    assert "<script" not in card


@pytest.mark.parametrize("confidential", [False, True])
def test_confidential_rows_are_not_quoted(
    sample: SampleRun, tmp_path: Path, confidential: bool
) -> None:
    write_report(make_report(sample, confidential), tmp_path)
    told = "".join(file.read_text(encoding="utf-8") for file in tmp_path.glob("*.*"))
    assert ("our secret" in told) != confidential
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert list_origins(report["data"])[0]["confidential"] == confidential


def test_a_run_without_prepare_has_the_facts_of_tune(sample: SampleRun) -> None:
    tuned = {"rows": {"train": 3}, "provenance": prepare_facts()["data"]["provenance"]}
    sample.artifacts["tune"].facts["data"] = tuned
    report = sample.report()
    assert report["data"] == tuned and "train 3 rows." in render_markdown(report)
    assert list_hub_datasets(None) == []
