"""The embedded texts and pairs are what the tool writes, and each pair differs in one value."""

from __future__ import annotations

import json
from pathlib import Path

from edgetune.embedded import locate
from tools.embedded import preferences


def test_files_are_what_the_tool_writes(tmp_path: Path) -> None:
    preferences.main(tmp_path)
    for name in ("texts.jsonl", "pairs.jsonl"):
        assert (tmp_path / name).read_bytes() == locate(f"devices/{name}").read_bytes()


def test_each_pair_differs_in_one_value() -> None:
    lines = locate("devices/pairs.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [json.loads(line) for line in lines]
    assert len(pairs) == preferences.PAIRS
    for pair in pairs:
        right, wrong = json.loads(pair["chosen"]), json.loads(pair["rejected"])
        assert right.keys() == wrong.keys()
        assert sum(right[key] != wrong[key] for key in right) == 1
