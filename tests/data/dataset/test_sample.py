"""Rows are counted and sampled without reading large sources."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgetune.data.dataset import sample
from edgetune.data.dataset.sample import sample_rows
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import DataSection


@pytest.mark.parametrize("small", [True, False])
def test_counts_are_about_right(
    small: bool, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"{n:05d} " + "x" * (n % 50), "completion": "yes"} for n in range(3000)]
    for name, some in (("a", rows[:2000]), ("b", rows[2000:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    train = [str(tmp_path / "a.jsonl"), {"path": str(tmp_path / "b.jsonl"), "weight": 2}]
    section = DataSection.model_validate({"train": train, "validation_fraction": 0.1})
    if not small:
        monkeypatch.setattr(sample, "SMALL_BYTES", 0)
    found = sample_rows(section, load_tokenizer(tiny_model), 0, 100)
    assert len(found.rows) == 100
    assert found.train == pytest.approx(0.9 * 4000, rel=0.05)
    assert found.validation == pytest.approx(0.1 * 3000, rel=0.35)
    places = [row.where.rpartition("/")[2] for row in found.rows]
    assert {place[0] for place in places} == {"a", "b"}
