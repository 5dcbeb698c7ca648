"""A run synthesizes before it prepares: train has the rows, validation never, the keys follow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgetune import api
from edgetune.data.dataset.splits import Splits
from edgetune.recipe.load import check_tree
from tests.synthesize.servers import completion, serve


def answer(body: dict[str, Any], _: dict[str, str]) -> tuple[int, Any]:
    words = body["messages"][-1]["content"].split()
    return 200, completion(f'{{"{words[1]}": {words[2]}}}')


@pytest.fixture
def tree(device_rows: Path, tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    prompts = tmp_path / "prompts.jsonl"
    lines = (json.dumps({"prompt": f"light cellar {n}"}) for n in range(5))
    prompts.write_text("\n".join(lines) + "\n")
    return {
        "model": {"path": str(tiny_model)},
        "data": {"train": str(device_rows), "validation_fraction": 0.2},
        "synthesize": {
            "model": "m", "prompts": str(prompts), "validators": {"similarity": 1.0},
        },
        "tune": {"max_steps": 1, "method": "full"},
    }  # fmt: skip


def test_a_comparison_tunes_without_the_written_rows_and_the_report_says_the_difference(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    tree["tune"]["max_steps"] = 2
    with serve(answer) as address:
        tree["synthesize"] |= {"endpoint": address, "compare": True}
        made = api.run(check_tree(tree, "test"), tmp_path / "run")
    facts = made.artifacts["control"].facts
    assert (facts["rows"], facts["synthetic_rows"]) == (29, 5)
    assert facts["tuning"]["steps"] == made.artifacts["tune"].facts["steps"] == 2
    weights = [made.artifacts[name].path / "model" / "model.safetensors"
               for name in ("tune", "control")]  # fmt: skip
    assert weights[0].read_bytes() != weights[1].read_bytes()
    report = made.report["synthetic"]
    assert report["verdict"] in ("won", "lost", "no significant difference")
    text = (made.path / "report" / "report.md").read_text()
    assert "## Synthetic rows" in text and "5 of 5 rows that m wrote" in text
    assert "on the 29 other rows" in text
    assert "Synthetic rows" in (made.path / "report" / "report.html").read_text()


def test_train_has_the_written_rows_and_validation_is_the_same_without_them(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    with serve(answer) as address:
        tree["synthesize"]["endpoint"] = address
        first = api.run(check_tree(tree, "test"), tmp_path / "with")
        tree["synthesize"]["count"] = 3
        second = api.run(check_tree(tree, "test"), tmp_path / "with")
    del tree["synthesize"]
    plain = api.run(check_tree(tree, "test"), tmp_path / "without")
    splits = [Splits.open(one.artifacts["prepare"].path) for one in (first, second, plain)]
    assert [len(one.train) - len(splits[2].train) for one in splits] == [5, 3, 0]
    prompts = [[row.messages[0].content for row in one.validation] for one in splits]
    assert prompts[0] == prompts[1] == prompts[2] and len(prompts[0]) == 7
    written = [row for row in splits[0].train if "cellar" in row.messages[0].content]
    assert [row.answer for row in written] == [f'{{"cellar": {n}}}' for n in range(5)]
    assert first.artifacts["tune"].key != second.artifacts["tune"].key
