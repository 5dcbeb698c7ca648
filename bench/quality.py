"""Shared by the benches of quantization: files made by the command line, their KL on test rows."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgetune.data.contract import encoder_of
from edgetune.data.encode import Encoder
from edgetune.data.encoded import Encoded
from edgetune.data.load import load_rows
from edgetune.data.split import choose_rows
from edgetune.log import Log
from edgetune.measure.quality import score_rows
from edgetune.measure.reference import ReferenceLogProbs
from edgetune.models.resolve import resolve_data, resolve_model
from edgetune.recipe import DataSection
from edgetune.runtimes import open_runtime

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "quality_per_byte.jsonl"
DRAWS = 2000  # of the bootstrap
ANSWER_TOKENS = 48


def run_edgetune(*arguments: str) -> None:
    """Run the command line; what it says on stderr is shown."""
    subprocess.run([sys.executable, "-m", "edgetune", *arguments], cwd=ROOT, check=True)


def make_plan(args: argparse.Namespace, folder: Path, **settings: Any) -> dict[str, Any]:
    """Run quantize into ``folder/plan``; return its seconds and facts."""
    began = time.monotonic()
    run_edgetune("quantize", *_given(args, settings), "--out", str(folder / "plan"))
    seconds = time.monotonic() - began
    facts = json.loads((folder / "plan" / "artifact.json").read_text())["facts"]
    return {"seconds": round(seconds, 1), "facts": facts}


def make_files(args: argparse.Namespace, folder: Path, **settings: Any) -> dict[str, Any]:
    """Run quantize and export; return quantize's seconds and facts, and file name to path."""
    planned = make_plan(args, folder, **settings)
    given = [*_given(args, settings), "--plan", str(folder / "plan")]
    run_edgetune("export", *given, "--out", str(folder / "files"))
    made = json.loads((folder / "files" / "artifact.json").read_text())["facts"]["files"]
    return planned | {"files": {one["name"]: folder / "files" / one["path"] for one in made}}


def _given(args: argparse.Namespace, settings: dict[str, Any]) -> list[str]:
    wanted = {
        "quantize.gguf": [], "quantize.onnx": [], "data.max_length": args.max_length,
        "export.check_rows": 4,
    } | {f"quantize.{key}": value for key, value in settings.items()}  # fmt: skip
    if settings.get("method") == "qat":
        wanted |= {
            "quantize.qat.max_steps": args.steps,
            "quantize.qat.learning_rate": args.learning_rate,
            "quantize.qat.batch_size": args.batch,
        }
    given = [f"--set={key}={json.dumps(value)}" for key, value in wanted.items()]
    given += ["--model", args.model, "--data", args.data, "--test", args.test, "--quiet"]
    return given + (["--validation", args.validation] if args.validation else [])


class Judge:
    """The unquantized model's distributions on test rows: every position, or the answers' alone."""

    def __init__(self, args: argparse.Namespace, folder: Path, answers: bool = False) -> None:
        self.base = resolve_model(args.model)
        data = DataSection(train=args.data, test=args.test, max_length=args.max_length)
        self.encoder: Encoder = encoder_of(self.base, data)
        rows = load_rows(resolve_data(args.test), data, Log(None, quiet=True), "test").rows
        self.rows = choose_rows(rows, args.rows, 0)
        encoded = [self.encoder.encode(row) for row in self.rows]
        self.encoded = [
            row if answers else Encoded(row.ids, [False] + [True] * (len(row.ids) - 1), False)
            for row in encoded
        ]
        self._path = folder / f"model-{answers}.npy"

    @cached_property
    def _kept(self) -> Path:
        self.kept(open_runtime(self.base), self._path)
        return self._path

    @property
    def lengths(self) -> list[int]:
        """Positions of each row."""
        return [sum(row.trained[1:]) for row in self.encoded]

    def kept(self, runtime: Any, path: Path) -> ReferenceLogProbs:
        """Keep what a runtime says, to compare others with, and close it."""
        score_rows(runtime, self.encoded, keep=path)
        runtime.close()
        return ReferenceLogProbs(path)

    def divergences(self, file: Path, reference: ReferenceLogProbs | None = None) -> list[float]:
        """Return each row's summed KL, nats, from the model or another reference."""
        runtime = open_runtime(file)
        judged = {"one": reference or ReferenceLogProbs(self._kept)}
        scores = score_rows(runtime, self.encoded, judged)
        runtime.close()
        return [float(row.sum()) for row in scores.comparisons["one"].divergences]

    def right(self, model: Path) -> list[bool]:
        """Return which answers are right, by greedy decoding; empty where rows are plain text."""
        asked = [row for row in self.rows if row.text is None and row.answer]
        if not asked:
            return []
        runtime = open_runtime(model)
        prompts = [self.encoder.prompt(row) for row in asked]
        found = runtime.generate(prompts, ANSWER_TOKENS, list(self.encoder.stop_ids))
        runtime.close()
        answers = [self.encoder.decode_answer(ids) for ids in found]
        return [one.strip() == row.answer.strip() for one, row in zip(answers, asked, strict=True)]


def ratio(a: Sequence[float], b: Sequence[float]) -> dict[str, Any]:
    """Return the ratio of two sums over the same rows, with a paired bootstrap interval."""
    pairs = np.array([a, b])
    random = np.random.default_rng(0)
    drawn = random.integers(0, pairs.shape[1], (DRAWS, pairs.shape[1]))
    sums = pairs[:, drawn].sum(-1)
    low, high = np.percentile(sums[0] / sums[1], [2.5, 97.5])
    return {"ratio": float(pairs[0].sum() / pairs[1].sum()), "ci95": [float(low), float(high)]}


def size(path: Path) -> int:
    """Return the bytes of a file or folder."""
    parts = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(part.stat().st_size for part in parts)


def keep(row: dict[str, Any], quick: bool) -> None:
    """Append a row to the results, unless it was a trial, and print it."""
    if not quick:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
    print(json.dumps(row))
