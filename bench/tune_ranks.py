"""``rank: auto`` against a uniform rank of as many parameters: tunings that are alike otherwise."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgetune.data.build_encoder import make_encoder
from edgetune.data.encode import Encoder
from edgetune.data.encoded import Encoded
from edgetune.data.load import load_rows
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.measure.statistics import mean
from edgetune.models.adapters import add_adapter
from edgetune.models.end_token import choose_end_token
from edgetune.models.load import load_base
from edgetune.models.resolve import resolve_data
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import DataSection, TuneSection
from edgetune.train.answer_score import AnswerScore
from edgetune.train.forgetting import score_texts
from edgetune.train.inputs import TrainingData, TrainingRun
from edgetune.train.objectives.sft import tune
from edgetune.train.rank_budget import find_ranks

ASSETS = Path(os.environ.get("EDGETUNE_ASSETS", "../shared/assets"))
QUIET = Log(None, quiet=True)
BUDGET, TEST_ROWS = 2, 400
#: Model, data, optimizer steps and seeds.
TASKS: dict[str, tuple[str, dict[str, Any], int, int]] = {
    "snips on stories260K": (
        "stories260K",
        {"train": "snips/train.jsonl", "test": "snips/validation.jsonl"},
        150, 5,
    ),
    "banking77 on babyllama": (
        "babyllama-tok105",
        {"train": "banking77/train.csv", "test": "banking77/test.csv", "format": "columns",
         "columns": {"prompt": "text", "completion": "category"}},
        100, 3,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A model and rows: to train on, and to test on, as rows and as tokens."""

    folder: Path
    encoder: Encoder
    train: Sequence[Encoded]
    test: Sequence[Any]
    test_tokens: Sequence[Encoded]


def rank_auto_gain(quick: bool) -> Iterator[dict[str, Any]]:
    """Yield each tuning, then the difference of a task over seeds with its 95 % interval.

    Gains are auto minus uniform in exact match and uniform minus auto in nats per token, so that
    above 0 auto is better.
    """
    gains: dict[str, Any] = {}
    for name, (model, data, steps, seeds) in TASKS.items():
        task = _open(model, data)
        found: dict[str, list[float]] = {"exact_match": [], "loss": []}
        for seed in range(1 if quick else seeds):
            one = {
                kind: _tune(task, kind, seed, 3 if quick else steps) for kind in ("uniform", "auto")
            }
            for kind, row in one.items():
                yield {"task": name, "rank": kind, "seed": seed, **row}
            found["exact_match"].append(one["auto"]["exact_match"] - one["uniform"]["exact_match"])
            found["loss"].append(one["uniform"]["loss"] - one["auto"]["loss"])
        gains[name] = {
            key: {"gain": estimate.value, "ci95": estimate.ci95, "seeds": estimate.n}
            for key, values in found.items()
            for estimate in [mean(values)]
        }
    yield {"budget": BUDGET, "figure": gains}


def _open(model: str, data: dict[str, Any]) -> Task:
    folder = ASSETS / "models" / model
    paths = {key: str(ASSETS / "data" / data[key]) for key in ("train", "test")}
    section = DataSection.model_validate({**data, **paths, "max_length": 256})
    tokenizer: Any = load_tokenizer(folder)
    base = load_base(folder, False, "float32", "cpu")
    end = choose_end_token(base, tokenizer, None, tokenizer.eos_token, QUIET)
    encoder = make_encoder(tokenizer, section, end, "2026-01-01T00:00:00")

    def read(split: str) -> tuple[list[Any], list[Encoded]]:
        rows = list(load_rows(resolve_data(paths[split]), section, QUIET, split).rows)
        pairs = [
            (row, one)
            for row, one in zip(rows, encoder.encode_many(rows), strict=True)
            if not isinstance(one, InputError) and not one.truncated
        ]
        return [row for row, _ in pairs], [one for _, one in pairs]

    rows, tokens = read("test")
    step = max(1, len(rows) // TEST_ROWS)
    return Task(folder, encoder, read("train")[1], rows[::step], tokens[::step])


def _tune(task: Task, kind: str, seed: int, steps: int) -> dict[str, Any]:
    section = TuneSection(
        method="lora", rank="auto" if kind == "auto" else BUDGET, rank_budget=BUDGET,
        alpha=2.0 * BUDGET, max_steps=steps, batch_size=16, learning_rate=5e-3, packing=False,
        eval_every=10**6, save_every=10**6,
    )  # fmt: skip
    model: Any = load_base(task.folder, False, "float32", "cpu")
    with tempfile.TemporaryDirectory() as scratch:
        ranks = None
        if kind == "auto":
            ranks = find_ranks(model, section, task.train, seed, Path(scratch) / "ranks.json")
        model = add_adapter(model, section, seed, ranks)
        run = TrainingRun("teacher", seed, Path(scratch), QUIET)
        tune(model, task.encoder.tokenizer, TrainingData(task.train), section, 256, run)
    model.eval()
    score = AnswerScore(task.encoder, task.test, len(task.test))
    scored = sum(sum(one.trained[1:]) for one in task.test_tokens)
    with torch.no_grad():
        loss = sum(score_texts(model, task.test_tokens)) / scored
    trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
    return {"parameters": trained, "exact_match": score(model), "loss": loss,
            "ranks": sorted((ranks or {}).values())}  # fmt: skip
