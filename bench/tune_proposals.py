"""What `edgetune init` proposes against other settings, and prompting against tuning.

``init_proposals``: the proposal's tuning and alternatives that spend as many tokens: other learning
rates, another rank, and the recipe's defaults. The figure is by how many points of exact match on
test rows the best of them is above the proposal.
``prompting``: the untouched base and a larger one, zero-shot and with examples of train, against
the tuned model. The figure is the tuned model minus the best prompt, in points.
``smaller_beats_larger``: a file of at most 1/135 of a larger base's bytes against that base, asked
without and with examples (InstructGPT 1.3 B was preferred over GPT-3 175 B, 135 times larger:
Ouyang et al. 2022). The figure is the file's exact match minus the base's best, in points; none if
no file is small enough.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

import edgetune
from edgetune.log import Log
from edgetune.models.resolve import resolve_model
from edgetune.models.shape import read_shape
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.plan.proposal import propose
from edgetune.plan.row_facts import measure_rows

ASSETS = Path(os.environ.get("EDGETUNE_ASSETS", "../shared/assets"))
PRESET = "fast"
#: Model, train rows, test rows, most tokens of an answer.
TASKS = {
    "stories260K on SNIPS": (
        str(ASSETS / "models/stories260K"), str(ASSETS / "data/snips/train.jsonl"),
        str(ASSETS / "data/snips/validation.jsonl"), 24,
    ),
    "embedded:base on device rows": (
        "embedded:base", "embedded:devices/train.jsonl", "embedded:devices/test.jsonl", 48,
    ),
}  # fmt: skip
TEST_ROWS = 300
#: Length of the sequences that the recipe's default tuning packs.
DEFAULT_LENGTH = 1024
HEADLINE_RATIO = 135


def init_proposals(quick: bool) -> Iterator[dict[str, Any]]:
    """Yield the exact match of the proposal and of each alternative at equal tokens."""
    worst = 0.0
    for task, (model, train, test, longest) in TASKS.items():
        folder = resolve_model(model)
        rows = measure_rows(train, load_tokenizer(folder), 0)
        sections = propose(read_shape(folder), rows, PRESET)
        proposed = {key: one.value for key, one in sections["tune"].items() if key != "patience"}
        data = {key: one.value for key, one in sections["data"].items()}
        batch = proposed["batch_size"] * proposed.get("gradient_accumulation", 1)
        steps = 2 if quick else max(1, round(proposed["epochs"] * rows.train / batch))
        tokens = steps * batch * rows.mean
        best: dict[str, float] = {}
        with tempfile.TemporaryDirectory() as scratch:
            for way, (tune, length) in _alternatives(proposed, steps, tokens, folder).items():
                recipe = {
                    "model": {"path": model},
                    "data": {"train": train, "test": test, **data, **length},
                    "tune": tune,
                    "bench": {"task_rows": 8 if quick else TEST_ROWS, "kl_rows": 32, "repeats": 1,
                              "max_new_tokens": longest, "models": "shipped"},
                }  # fmt: skip
                found = _run(recipe, Path(scratch) / "run")
                figures = {m["name"]: m for m in found["models"][-1]["measurements"]}
                exact = figures["exact_match"]
                best[way] = exact["value"]
                gap = 100 * (max(best.values()) - best["proposal"])
                yield {
                    "task": task, "way": way, "preset": PRESET, "steps": tune["max_steps"],
                    "tokens": round(tokens), "learning_rate": tune.get("learning_rate", 2e-4),
                    "exact_match": exact["value"], "ci95": exact["ci95"], "n": exact["n"],
                    "perplexity": figures["perplexity"]["value"], "figure": max(worst, gap),
                }  # fmt: skip
        worst = max(worst, gap)


def _alternatives(
    proposed: dict[str, Any], steps: int, tokens: float, model: Path
) -> dict[str, tuple[dict[str, Any], dict[str, int]]]:
    """Return settings of the tuning and of rows, by name."""
    tune = {key: value for key, value in proposed.items() if key != "epochs"}
    tune |= {"max_steps": steps, "eval_every": steps, "save_every": steps}
    rate = proposed["learning_rate"]
    context = read_shape(model).context or DEFAULT_LENGTH
    length = min(DEFAULT_LENGTH, context)
    packed = max(1, round(tokens / (8 * length)))
    return {
        "proposal": (tune, {}),
        "rate x 3": ({**tune, "learning_rate": 3 * rate}, {}),
        "rate / 3": ({**tune, "learning_rate": rate / 3}, {}),
        "rate / 10": ({**tune, "learning_rate": rate / 10}, {}),
        "rank x 4": ({**tune, "rank": min(32, 4 * tune["rank"]),
                      "alpha": min(64.0, 4 * tune["alpha"])}, {}),
        "half the batch": ({**tune, "batch_size": tune["batch_size"] // 2,
                            "max_steps": 2 * steps}, {}),
        "the defaults": ({"max_steps": packed, "eval_every": packed}, {"max_length": length}),
    }  # fmt: skip


def prompting(quick: bool) -> Iterator[dict[str, Any]]:
    """Yield each prompt's score and cost beside the tuned model's, which is trained once."""
    model, train, test, longest = TASKS["stories260K on SNIPS"]
    folder = resolve_model(model)
    rows = measure_rows(train, load_tokenizer(folder), 0)
    sections = propose(read_shape(folder), rows, PRESET)
    tune = {key: one.value for key, one in sections["tune"].items()}
    data = {key: one.value for key, one in sections["data"].items()}
    bench = {
        "task_rows": 8 if quick else TEST_ROWS, "kl_rows": 32, "repeats": 5,
        "max_new_tokens": longest, "models": "shipped",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        for choose in ("random", "similar"):
            asked = {"shots": [0, 4], "choose": choose, "larger": "embedded:base"}
            recipe = {
                "model": {"path": model},
                "data": {"train": train, "test": test, **data},
                "tune": {**tune, "max_steps": 2} if quick else tune,
                "bench": {**bench, "prompting": asked},
            }
            found = _run(recipe, Path(scratch) / "run")["prompting"]
            yield from _prompt_rows(choose, found)


def _prompt_rows(choose: str, found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for one in found["models"]:
        figures = {m["name"]: m for m in one["measurements"]}
        row = {
            "choose": choose, "way": one["name"], "bytes": one["bytes"],
            "fewer_examples": one["cut"],
            **{name: figure["value"] for name, figure in figures.items()},
            "ci95": figures["exact_match"]["ci95"], "n": figures["exact_match"]["n"],
            "tuned_minus_it": one.get("difference"),
        }  # fmt: skip
        if one["name"] == found["best"]:
            row["figure"] = 100 * one["difference"]["difference"]
        yield row


def smaller_beats_larger(quick: bool) -> Iterator[dict[str, Any]]:
    """Yield the files of a student of 3 layers, and the larger base by each prompt."""
    model, train, test, longest = TASKS["stories260K on SNIPS"]
    steps = 2 if quick else 600
    recipe = {
        "model": {"path": model},
        "data": {"train": train, "test": test, "validation_fraction": 0.02, "max_length": 256},
        "tune": {"batch_size": 16, "packing": False, "rank": 16, "learning_rate": 5e-3,
                 "max_steps": steps},
        "distill": {
            # 160 channels are whole blocks of 32; of stories260K's 172 no block type takes a row.
            "student": {"layers": 3, "mlp": 160}, "batch_size": 16, "learning_rate": 3e-3,
            "max_steps": steps, "baseline": False,
        },
        "merge": {},
        "quantize": {"gguf": ["Q8_0", "Q4_0"], "onnx": []},
        "export": {},
        "bench": {
            "task_rows": 8 if quick else 700, "kl_rows": 32, "repeats": 3, "models": "shipped",
            "max_new_tokens": longest, "prompting": {"shots": [0, 4, 8], "larger": "embedded:base"},
        },
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        found = _run(recipe, Path(scratch) / "run")
    larger = {}
    for row in _prompt_rows("random", found["prompting"]):
        row.pop("figure", None)
        if row["way"].startswith("larger"):
            larger[row["exact_match"]] = row["bytes"]
            yield row
    best = max(larger)
    for one in found["models"]:
        exact = next(m for m in one["measurements"] if m["name"] == "exact_match")
        ratio = larger[best] / one["bytes"]
        row = {"way": one["name"], "bytes": one["bytes"], "larger_by": ratio,
               "exact_match": exact["value"], "ci95": exact["ci95"], "n": exact["n"]}  # fmt: skip
        if ratio >= HEADLINE_RATIO:
            row["figure"] = 100 * (exact["value"] - best)
        yield row


def _run(recipe: dict[str, Any], out: Path) -> dict[str, Any]:
    """Run a recipe in this process, which imports torch once, and return its report."""
    path = out.with_suffix(".yaml")
    path.write_text(yaml.safe_dump({"name": "tune-bench", **recipe}))
    edgetune.run(path, out, log=Log(quiet=True))
    found: dict[str, Any] = json.loads((out / "report" / "report.json").read_text())
    return found
