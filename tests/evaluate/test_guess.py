"""The task that rows look like, of tiny sets and of real ones."""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from edgetune.evaluate import TASKS
from edgetune.evaluate.guess import guess_task

Rows = list[tuple[str, str]]
SETS: dict[str, tuple[str, Rows]] = {
    "labels": ("classification", [(f"text {at}", ("yes", "no")[at % 2]) for at in range(12)]),
    "label numbers": ("classification", [(f"text {at}", str(at % 3)) for at in range(30)]),
    "letters that are labels": ("classification", [(f"t {at}", "AB"[at % 2]) for at in range(9)]),
    "objects": ("extraction", [(f"t {at}", json.dumps({"a": at})) for at in range(9)]),
    "calls": ("tool_calls", [(f"t {at}", f'{{"name": "f", "arguments": {{"x": {at}}}}}')
                             for at in range(9)]),
    "choices": ("multiple_choice", [(f"Q{at}?\nA. x\nB. y\nC. z", "ABC"[at % 3])
                                    for at in range(9)]),
    "numbers": ("numeric", [(f"What is {at} + 90?", str(at + 90)) for at in range(20)]),
    "commands": ("command", [(f"list {at}", f"find . -name '{at}' | xargs rm") for at in range(9)]),
    "translation": ("translation", [(f"Translate into French: {at} x", f"la {at} " * 9)
                                    for at in range(9)]),
    "other letters": ("translation", [(f"good morning {at}", f"доброе утро в городе {at}")
                                      for at in range(9)]),
    "text": ("generation", [(f"Tell me {at}", f"Once there was {at} who sat on a mat and slept.")
                            for at in range(9)]),
    "names": ("exact", [(f"Who wrote {at}?", f"Author{at} Name") for at in range(9)]),
    "nothing": ("exact", []),
    "empty answers": ("exact", [("a", ""), ("b", " ")]),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_the_task_of_tiny_sets(name: str) -> None:
    task, rows = SETS[name]
    found, why = guess_task([a for a, _ in rows], [b for _, b in rows])
    assert (found, bool(why)) == (task, True)
    assert found in TASKS


def read_snips(folder: Path, slots: bool) -> Rows:
    rows = _json_lines((folder / "snips/validation.jsonl").open(encoding="utf-8"))
    return [(r["prompt"], json.dumps(r["slots"]) if slots else r["completion"]) for r in rows]


def read_banking(folder: Path) -> Rows:
    with (folder / "banking77/test.csv").open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def read_commands(folder: Path) -> Rows:
    with gzip.open(folder / "nl2bash/pairs.jsonl.gz", "rt", encoding="utf-8") as file:
        return [(row["instruction"], row["output"]) for row in _json_lines(file)]


def read_math(folder: Path) -> Rows:
    rows = _json_lines((folder / "gsm8k/test.jsonl").open(encoding="utf-8"))
    return [(row["question"], row["answer"]) for row in rows]


def read_alpaca(folder: Path) -> Rows:
    text = (folder / "llamafactory-demo/alpaca_en_demo.json").read_text(encoding="utf-8")
    return [(row["instruction"] + row["input"], row["output"]) for row in json.loads(text)]


def read_many_intents(folder: Path) -> Rows:
    """150 labels and out of scope, as CLINC150 has: BANKING77's texts, its labels split in two."""
    rows = [(text, f"{label} {len(text) % 2}") for text, label in read_banking(folder)]
    return [(t, "oos" if at % 5 == 0 else label) for at, (t, label) in enumerate(rows)]


def _json_lines(lines: Iterable[str]) -> list[dict[str, str]]:
    return [json.loads(line) for line in lines]


@pytest.mark.assets
@pytest.mark.parametrize("rows", [100, 300, 100_000])
@pytest.mark.parametrize(
    ("name", "task"),
    [("snips", "classification"), ("slots", "extraction"), ("banking", "classification"),
     ("many intents", "classification"), ("commands", "command"), ("math", "numeric"),
     ("alpaca", "generation")],
)  # fmt: skip
def test_the_task_of_real_sets(assets: Path, name: str, task: str, rows: int) -> None:
    readers = {
        "snips": lambda folder: read_snips(folder, slots=False),
        "slots": lambda folder: read_snips(folder, slots=True), "banking": read_banking,
        "many intents": read_many_intents, "commands": read_commands, "math": read_math,
        "alpaca": read_alpaca,
    }  # fmt: skip
    every = readers[name](assets / "data")
    random.Random(0).shuffle(every)
    some = every[:rows]
    assert guess_task([a for a, _ in some], [b for _, b in some])[0] == task
