"""Well-known data sets are read straight from the files they come in, by recipe alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgetune.data.dataset.make import load_splits
from edgetune.log import Log
from edgetune.recipe import DataSection

pytestmark = pytest.mark.assets

# Path below the assets; the data section's other keys; shape; rows of train and validation; test.
CASES: list[tuple[str, dict[str, Any], str, int, int]] = [
    ("banking77", {}, "classification", 10_003, 3_080),
    ("nl2bash/pairs.jsonl.gz", {}, "instruction", 12_607, 0),
    (
        "gsm8k/test.jsonl", {"columns": {"prompt": "question", "completion": "answer"}}, "columns",
        1_319, 0,
    ),
    (
        "snips", {"columns": {"prompt": "prompt", "completion": "{completion} {slots}"}}, "columns",
        14_484, 0,
    ),
    ("llamafactory-demo/alpaca_en_demo.json", {}, "instruction", 999, 0),
    ("llamafactory-demo/dpo_en_demo.json", {}, "preference", 300, 0),
    ("llamafactory-demo/kto_en_demo.json", {}, "unpaired_preference", 150, 0),
    ("llamafactory-demo/glaive_toolcall_en_demo.json", {}, "sharegpt", 300, 0),
]  # fmt: skip


@pytest.mark.parametrize(("path", "more", "shape", "rows", "test"), CASES, ids=lambda v: str(v))
def test_the_format_it_comes_in(
    assets: Path, path: str, more: dict[str, Any], shape: str, rows: int, test: int
) -> None:
    section = DataSection.model_validate({"train": str(assets / "data" / path), **more})
    splits = load_splits(section, 0, Log(quiet=True))
    facts = splits.facts
    assert facts["format"] == shape
    assert len(splits.train) + len(splits.validation) == rows
    assert len(splits.test) == (test or len(splits.validation))
    assert not facts["skipped"]["train"]
    if shape == "preference":
        assert all(row.rejected and row.rejected != row.messages[-1:] for row in splits.train)
    if shape == "unpaired_preference":
        assert facts["not_used"]["train"].popitem()[1] == 150
    if path == "snips":
        row = next(row for row in splits.train if row.messages[0].content.startswith("Play some 1"))
        assert row.answer == 'PlayMusic {"year": "1959", "service": "Iheart"}'
    if path.startswith("llamafactory-demo/glaive"):
        calls = [message for row in splits.train for message in row.messages if message.more]
        assert calls and all("tool_calls" in message.more for message in calls)
        assert all(json.loads(row.tools) for row in splits.train if row.tools)
