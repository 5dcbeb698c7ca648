"""What models left in bench's scratch folder becomes facts: their own, and what files changed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from edgetune.data.dataset.splits import Splits
from edgetune.data.encode import Encoder
from edgetune.data.rows import Message, Row
from edgetune.facts import FairnessFacts
from edgetune.fairness.lists import read_lists
from edgetune.fairness.run import find_fairness
from edgetune.fairness.swap import SwappedRow, Swapper
from edgetune.fairness.workload import Counterfactuals
from edgetune.measure.devices import Devices
from edgetune.measure.subject import Subject

LISTS = read_lists(None)


@dataclass
class Letters:
    """Turns ids into letters."""

    def decode_answer(self, ids: list[int]) -> str:
        return "".join(chr(id) for id in ids)


@dataclass
class Rows:
    """The rows of train."""

    train: list[Row]
    confidential: bool = False


def make_row(name: str, answer: str) -> Row:
    return Row(
        (Message("user", f"{name} asks for a loan"), Message("assistant", answer)), None, "r"
    )


def make_result(row: SwappedRow, biased: bool) -> dict[str, Any]:
    answers = ["yes" if biased and version.group == "male" else "no" for version in row.versions]
    losses = [float(answer == "no") for answer in answers]
    return {
        "answers": [[ord(letter) for letter in answer] for answer in answers],
        "losses": losses,
        "divergences": [abs(losses[i] - losses[j]) for i, j in row.pairs()],
    }


def find(tmp_path: Path, confidential: bool = False) -> FairnessFacts | None:
    swapper = Swapper(LISTS, "gender", 0)
    rows = [swapper.swap(make_row("Emily", "yes")) for _ in range(40)]
    swapped = [row for row in rows if isinstance(row, SwappedRow)]
    made = Counterfactuals(swapped, [], {"gender": swapper.finder}, {"gender": {}}, LISTS)
    subjects = []
    for name, role, biased in (("merged", "merged", True), ("a.gguf", "file", True),
                               ("b.gguf", "file", False), ("c.gguf", "file", True)):  # fmt: skip
        subjects.append(Subject(name, role, tmp_path / name, "gguf", "?", 1, ""))
        results = [make_result(row, biased) for row in swapped]
        if name != "c.gguf":  # that could not be measured
            (tmp_path / f"{name}.cpu.json").write_text(json.dumps({"variants": results}))
    train = Rows([make_row("Emily", "no"), make_row("Peter", "yes")] * 5, confidential)
    return find_fairness(
        subjects, Devices(), tmp_path, made, cast(Encoder, Letters()), cast(Splits, train)
    )


def test_a_biased_model_and_file_are_found_and_a_file_that_differs_is_named(tmp_path: Path) -> None:
    facts = find(tmp_path)
    assert facts is not None and facts.rows == {"gender": 40}
    assert [model.name for model in facts.models] == ["merged", "a.gguf", "b.gguf"]
    merged, same, other = facts.models
    assert merged.groups[0].found == ["label_changes", "score", "length", "kl"]
    assert merged.changes is None and other.reference == "merged"
    assert same.groups[0].found == merged.groups[0].found
    assert other.groups[0].found == []
    assert same.changes is not None and same.changes[0].found == []
    assert other.changes is not None and "label_changes" in other.changes[0].found
    most = merged.groups[0].most
    assert most is not None and {most.share, most.share_against} == {0.0, 1.0}
    assert any(line.startswith("b.gguf differs from merged") for line in facts.findings)
    counts = {one.group: one.labels for one in facts.balance}
    assert counts == {"female": {"no": 5}, "male": {"yes": 5}}


def test_no_answer_of_confidential_rows_is_in_the_facts(tmp_path: Path) -> None:
    facts = find(tmp_path, confidential=True)
    assert facts is not None and all(one.labels == {} for one in facts.balance)
    assert all(group.most is None for model in facts.models for group in model.groups)


def test_nothing_is_found_where_nothing_was_asked(tmp_path: Path) -> None:
    nothing = Counterfactuals()
    encoder, splits = cast(Encoder, Letters()), cast(Splits, Rows([]))
    assert find_fairness([], Devices(), tmp_path, nothing, encoder, splits) is None
