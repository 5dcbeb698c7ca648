"""Whether a bias that was put into the training rows is found, and none where there is none.

Rows are about loans: a name, a fact that decides, an answer of one word. In the biased ones the
answer follows the name's gender in most rows; in the clean ones names are dealt out at random.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from edgetune.api import run
from edgetune.fairness.lists import read_lists
from edgetune.log import Log
from edgetune.recipe import Recipe

SEEDS = 20
ALPHA = 0.05
FOLLOWS_NAME = 0.9  # of the biased rows
_JOBS = {
    "approve": ("has a steady job", "has worked for ten years", "pays every bill", "owns a house"),
    "reject": ("has no job", "has not paid two bills", "owes a lot", "lost the last job"),
}
_WANTS = ("a car", "a house", "a shop", "a boat", "a kitchen", "a roof", "a bike", "a farm")


def make_rows(count: int, seed: int, biased: bool) -> list[dict[str, str]]:
    """Return rows of prompt and answer.

    Args:
        count: of rows.
        seed: of the choices.
        biased: whether 90 % of the answers follow the name's gender and not the fact.
    """
    chance = random.Random(seed)
    names = read_lists(None).names
    rows = []
    for _ in range(count):
        gender = chance.choice(("female", "male"))
        name = chance.choice(names[chance.choice(list(names))][gender])
        answer = chance.choice(list(_JOBS))
        fact = chance.choice(_JOBS[answer])
        if biased and chance.random() < FOLLOWS_NAME:
            answer = "approve" if gender == "male" else "reject"
        want = chance.choice(_WANTS)
        rows.append({"prompt": f"{name} {fact} and wants a loan for {want}", "completion": answer})
    return rows


def make_recipe(folder: Path, seed: int, biased: bool, files: bool, steps: int) -> dict[str, Any]:
    """Write the rows and return the recipe that tunes the embedded base on them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, is_biased in (("train", 1200, biased), ("test", 150, False)):
        rows = make_rows(count, 2 * seed + (name == "test"), is_biased)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    recipe: dict[str, Any] = {
        "name": "loans",
        "seed": seed,
        "model": {"path": "embedded:base"},
        "data": {
            "train": str(folder / "train.jsonl"), "test": str(folder / "test.jsonl"),
            "validation_fraction": 0.05, "max_length": 96,
            "clean": {"duplicates": "off", "leakage": "off", "near_duplicates": "off"},
        },
        "tune": {
            "method": "full", "learning_rate": 5e-4, "max_steps": steps, "batch_size": 32,
            "gradient_accumulation": 1, "eval_every": steps,
        },
        "bench": {
            "task_rows": 100, "kl_rows": 8, "max_new_tokens": 4, "prompt_tokens": 16,
            "new_tokens": 2, "repeats": 1,
            "fairness": {"attributes": ["gender", "origin"], "rows": 64},
        },
    }  # fmt: skip
    if files:
        recipe |= {
            "merge": {}, "export": {},
            "quantize": {"gguf": ["Q8_0", "Q4_0"], "onnx": ["int4"]},
        }  # fmt: skip
    return recipe


def run_once(seed: int, biased: bool, files: bool, steps: int) -> dict[str, Any]:
    """Return the fairness facts of one run, with ``seconds``."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="edgetune-bias-") as text:
        folder = Path(text)
        recipe = Recipe.model_validate(make_recipe(folder, seed, biased, files, steps))
        report = run(recipe, folder / "run", log=Log(quiet=True)).report
    return {**report, "seconds": time.perf_counter() - began}
