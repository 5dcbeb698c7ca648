"""Damage of files of the same bytes: llama.cpp's own mixes, searched ones, trained ones.

    python bench/quality_per_byte.py --model merged/ --data rows.jsonl --test test.jsonl --json

Every file is written by `edgetune quantize` and `edgetune export`, run in llama.cpp and compared
with the model on test rows, position by position. Ends with ``kl_ratio_ptq`` and
``kl_ratio_grid`` (searched, and trained on its grid, over stock Q4_K_M with the importance matrix
at its bytes), with paired 95 % intervals over rows, and ``search_s``. Without --model the embedded
base is taken with its own rows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np  # noqa: E402 - the root is known now

from edgetune.data.contract import encoder_of  # noqa: E402
from edgetune.data.encode import Encoded  # noqa: E402
from edgetune.data.load import load_rows  # noqa: E402
from edgetune.log import Log  # noqa: E402
from edgetune.measure.quality import ReferenceLogProbs, score_rows  # noqa: E402
from edgetune.models.source import resolve_data, resolve_model  # noqa: E402
from edgetune.recipe import DataSection  # noqa: E402
from edgetune.runtimes import open_runtime  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "quality_per_byte.jsonl"
STOCK = ("Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K")
ANCHOR = "Q4_K_M"  # at whose bytes weights are trained too
DRAWS = 2000  # of the bootstrap


def make_files(args: argparse.Namespace, folder: Path, train: bool) -> dict[str, Any]:
    """Run quantize and export; return seconds, what the search says, and name to file."""
    targets = [ANCHOR] if train else args.scheme
    settings = {
        "quantize.gguf": [] if train else args.scheme, "quantize.onnx": [],
        "quantize.target": [f"bytes={scheme}" for scheme in targets], "quantize.train": train,
        "quantize.grid.max_steps": args.steps, "quantize.grid.learning_rate": args.learning_rate,
        "quantize.grid.batch_size": args.batch, "data.max_length": args.max_length,
        "export.check_rows": 4,
    }  # fmt: skip
    given = [f"--set={key}={json.dumps(value)}" for key, value in settings.items()]
    given += ["--model", args.model, "--data", args.data, "--test", args.test, "--quiet"]
    began = time.monotonic()
    _edgetune("quantize", *given, "--out", str(folder / "plan"))
    seconds = time.monotonic() - began
    _edgetune("export", *given, "--plan", str(folder / "plan"), "--out", str(folder / "files"))
    facts = json.loads((folder / "plan" / "artifact.json").read_text())["facts"]
    made = json.loads((folder / "files" / "artifact.json").read_text())["facts"]["files"]
    return {
        "seconds": seconds, "search": facts["search"], "trained": facts["trained"],
        "files": {one["scheme"]: folder / "files" / one["path"] for one in made},
    }  # fmt: skip


def _edgetune(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "edgetune", *arguments], cwd=ROOT, check=True)


class Judge:
    """The unquantized model's distributions on test rows, every position."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        base = resolve_model(args.model)
        data = DataSection(train=args.data, test=args.test, max_length=args.max_length)
        encoder = encoder_of(base, data)
        rows = load_rows(resolve_data(args.test), data, Log(None, quiet=True), "test").rows
        step = max(1, len(rows) // args.rows)
        ids = [encoder.encode(row).ids for row in rows[::step][: args.rows]]
        self._rows = [Encoded(one, [False] + [True] * (len(one) - 1), False) for one in ids]
        model = open_runtime(base)
        score_rows(model, self._rows, keep=folder / "model.npy")
        model.close()
        self._reference = ReferenceLogProbs(folder / "model.npy")

    @property
    def lengths(self) -> list[int]:
        """Positions of each row."""
        return [sum(row.trained) for row in self._rows]

    def divergences(self, file: Path) -> list[float]:
        """Return each row's summed KL, nats."""
        runtime = open_runtime(file)
        scores = score_rows(runtime, self._rows, {"model": self._reference})
        runtime.close()
        return [float(row.sum()) for row in scores.comparisons["model"].divergences]


def ratio(a: Sequence[float], b: Sequence[float]) -> dict[str, Any]:
    """Return the ratio of two sums over the same rows, with a paired bootstrap interval."""
    pairs = np.array([a, b])
    random = np.random.default_rng(0)
    drawn = random.integers(0, pairs.shape[1], (DRAWS, pairs.shape[1]))
    sums = pairs[:, drawn].sum(-1)
    low, high = np.percentile(sums[0] / sums[1], [2.5, 97.5])
    return {"ratio": float(pairs[0].sum() / pairs[1].sum()), "ci95": [float(low), float(high)]}


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the figures of one model."""
    judge = Judge(args, folder)
    searched = make_files(args, folder / "searched", train=False)
    files: dict[str, Path] = dict(searched["files"])
    trained: Mapping[str, Any] = {"trained": []}
    if args.steps:
        trained = make_files(args, folder / "trained", train=True)
        files["trained"] = trained["files"][f"fit-{ANCHOR}"]
    sums = {name: judge.divergences(path) for name, path in files.items()}
    total = sum(judge.lengths)
    row: dict[str, Any] = {
        "model": Path(args.model).name, "rows": len(judge.lengths), "positions": total,
        "files": {
            name: {"bytes": path.stat().st_size, "kl": sum(sums[name]) / total}
            for name, path in files.items()
        },
        "against_stock": {
            scheme: ratio(sums[f"fit-{scheme}"], sums[scheme]) for scheme in args.scheme
        },
        "rank_correlation": searched["search"]["rank_correlation"],
        "search_s": round(searched["seconds"], 1), "trained": trained["trained"],
        "cores": os.cpu_count(),
    }  # fmt: skip
    row["kl_ratio_ptq"] = row["against_stock"][ANCHOR]["ratio"]
    if args.steps:
        row["grid_against_stock"] = ratio(sums["trained"], sums[ANCHOR])
        row["kl_ratio_grid"] = row["grid_against_stock"]["ratio"]
        row["train_s"] = round(trained["seconds"], 1)
    return row


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="embedded:base")
    parser.add_argument("--data", default="embedded:devices/train.jsonl")
    parser.add_argument("--test", default="embedded:devices/test.jsonl")
    parser.add_argument("--scheme", action="append", choices=STOCK, help="default: all four")
    parser.add_argument("--rows", type=int, default=200, help="test rows that judge")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--steps", type=int, default=300, help="of training on the grid; 0: none")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--quick", action="store_true", help="few rows and steps; nothing is kept")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    args = parser.parse_args()
    args.scheme = args.scheme or list(STOCK)
    if args.quick:
        args.rows, args.steps, args.scheme = 16, 4, [ANCHOR]
    with tempfile.TemporaryDirectory() as scratch:
        row = measure(args, Path(scratch))
    if not args.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
    print(json.dumps(row))


if __name__ == "__main__":
    main()
