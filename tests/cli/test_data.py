"""`edgetune data show` prints what trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgetune.cli import cli
from edgetune.errors import InputError


def test_show_marks_what_trains(device_rows: Path, tiny_model: Path) -> None:
    arguments = ["show", "--data", str(device_rows), "--model", str(tiny_model), "--rows", "2"]
    shown = CliRunner().invoke(cli, ["data", *arguments], catch_exceptions=False).stdout
    assert "<|im_start|>user\nlight kitchen 20<|im_end|>\n<|im_start|>assistant\n⟦" in shown
    assert '⟦{"kitchen": 20}<|im_end|>⟧' in shown
    assert f"── {device_rows}:2  " in shown
    assert "0 truncated, 0 dropped" in shown


def test_show_json_is_one_line(device_rows: Path, tiny_model: Path) -> None:
    arguments = ["show", "--data", str(device_rows), "--model", str(tiny_model), "--json"]
    lines = (
        CliRunner().invoke(cli, ["data", *arguments], catch_exceptions=False).stdout.splitlines()
    )
    facts = json.loads(lines[-1])
    assert len(lines) == 1
    assert facts["rows"] == {"train": 34, "validation": 2, "test": 2}
    assert facts["tokens"]["train"]["trained_tokens"] > 34
    assert [part["trained"] for part in facts["shown"][0]["parts"]] == [False, True]


def test_show_needs_something_to_show() -> None:
    with pytest.raises(InputError, match="nothing to show"):
        CliRunner().invoke(cli, ["data", "show"], catch_exceptions=False)


def test_chunks_of_documents_are_shown(tiny_model: Path, tmp_path: Path) -> None:
    page = "# Lamps\n\n" + " ".join(f"Lamp {n} shines." for n in range(200))
    (tmp_path / "a.md").write_text(page, encoding="utf-8")
    shown = CliRunner().invoke(
        cli,
        ["data", "show", "--model", str(tiny_model), "--data", str(tmp_path / "a.md"), "--json",
         "--set", "data.chunk={tokens: 50, overlap: 10}"],
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    facts = json.loads(shown.stdout.splitlines()[-1])
    assert facts["rows"]["train"] > 20 and facts["objectives"] == ["text", "distill"]
    assert facts["tokens"]["train"]["lengths"]["max"] <= 51  # and the end token
    assert all(" § Lamps, chunk " in row["where"] for row in facts["shown"])
    assert "its loss is optimistic" in shown.stderr


def test_chunks_of_a_document_stay_in_one_split(tiny_model: Path, tmp_path: Path) -> None:
    for page in range(4):
        text = " ".join(f"Lamp {n} of page {page} shines." for n in range(60))
        (tmp_path / f"{page}.md").write_text(text, encoding="utf-8")
    shown = CliRunner().invoke(
        cli,
        ["data", "show", "--model", str(tiny_model), "--data", str(tmp_path), "--json",
         "--rows", "500", "--set", "data.chunk={tokens: 50, overlap: 10}",
         "--set", "data.split.group_by=document", "--set", "data.validation_fraction=0.2"],
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    facts = json.loads(shown.stdout.splitlines()[-1])
    assert len({row["where"].partition(",")[0] for row in facts["shown"]}) == 3
    assert facts["rows"]["validation"] > 5 and "optimistic" not in shown.stderr
