"""KL of files of equal bytes: the formats' own mixes, searched ones, QAT.

    python bench/quality_per_byte.py --model merged/ --data rows.jsonl --test test.jsonl --json

Every file is written by `edgetune quantize` and `edgetune export`, run in its runtime and compared
with the model on test rows, position by position. A row for each part:

gguf     ``kl_ratio_ptq`` and ``kl_ratio_qat`` (searched, and trained by QAT, over stock
         Q4_K_M with the importance matrix at its bytes) with paired 95 % intervals over rows,
         ``search_s``; the task score, there and at that many bits per weight, and that of the same
         trained weights rounded once more
onnx     ``kl_ratio_onnx`` and ``kl_ratio_onnx_qat`` over the builder's int4 at its bytes, and
         tokens/s against the builder's settings, on one thread and on all cores; "fast" has only
         the types that ONNX Runtime is fastest in
runtime  ``runtime_kl``: one plan of Q8_0 and of Q4_0 in llama.cpp and in ONNX Runtime
search   ``search_s`` of one file at Q4_K_M's bytes, and how the estimate ranks: for models whose
         files take long to judge; only where it is asked for

Without --model the embedded base is taken with its own rows.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from quality import Judge, keep, make_files, make_plan, ratio, size  # noqa: E402 - the paths are known now
from quality_onnx import measure_onnx, measure_runtimes  # noqa: E402

from edgetune.export.gguf.write import Quantization, write_gguf  # noqa: E402
from edgetune.quantize.calibration.imatrix import read_imatrix  # noqa: E402
from edgetune.quantize.plan import read_plan  # noqa: E402
from edgetune.runtimes.gguf_header import open_gguf  # noqa: E402

STOCK = ("Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K")
ANCHOR = "Q4_K_M"  # at whose bytes QAT runs too


def measure_gguf(args: argparse.Namespace, judge: Judge, folder: Path) -> dict[str, Any]:
    """Return the figures of GGUF files."""
    searched = make_files(
        args, folder / "searched", gguf=args.scheme, budget=[f"bytes={s}" for s in args.scheme]
    )
    files = {name.removesuffix(".gguf"): path for name, path in searched["files"].items()}
    row: dict[str, Any] = {"search_s": searched["seconds"]}
    if args.steps:
        budgets = [f"bytes={ANCHOR}", *([f"bits={args.bits}"] if args.bits else [])]
        trained = make_files(args, folder / "trained", budget=budgets, method="qat")
        for name, path in trained["files"].items():
            scheme = name.removesuffix(".gguf")
            files[f"trained {scheme}"] = path
            files[f"naive {scheme}"] = round_again(path, scheme, folder)
        row |= {"train_s": trained["seconds"], "trained": trained["facts"]["requantized"]}
    sums = {name: judge.divergences(path) for name, path in files.items()}
    total = sum(judge.lengths)
    row |= {
        "files": {
            name: {"bytes": size(path), "kl": sum(sums[name]) / total}
            for name, path in files.items()
        },
        "against_stock": {s: ratio(sums[f"auto-{s}"], sums[s]) for s in args.scheme},
        "rank_correlation": searched["facts"]["search"]["rank_correlation"],
    }
    row["kl_ratio_ptq"] = row["against_stock"][ANCHOR]["ratio"]
    if args.steps:
        row["qat_against_stock"] = ratio(sums[f"trained auto-{ANCHOR}"], sums[ANCHOR])
        row["kl_ratio_qat"] = row["qat_against_stock"]["ratio"]
        shown = {
            n: p for n, p in files.items() if n == ANCHOR or n.startswith(("trained", "naive"))
        }
        right = {name: judge.right(path) for name, path in {"model": judge.base, **shown}.items()}
        row["exact_match"] = {n: sum(hits) / len(hits) for n, hits in right.items() if hits}
    return row


def measure_search(args: argparse.Namespace, _: Judge, folder: Path) -> dict[str, Any]:
    """Return what one search takes and finds; its KL is that on calibration text."""
    planned = make_plan(args, folder, budget=[f"bytes={ANCHOR}"])
    found = planned["facts"]["search"]
    return {
        "search_s": planned["seconds"], "rank_correlation": found["rank_correlation"],
        "results": found["results"], "stock": found["stock"],
        "requantized": planned["facts"]["requantized"],
    }  # fmt: skip


def round_again(file: Path, scheme: str, folder: Path) -> Path:
    """Round a trained file's weights once more to the same types, as a converter would."""
    types = read_plan(folder / "trained" / "plan").gguf[scheme]
    importance = read_imatrix(folder / "trained" / "plan" / "imatrix.gguf")
    target = folder / f"naive-{scheme}.gguf"
    write_gguf(open_gguf(file), target, Quantization(scheme, types, importance or {}))
    return target


PARTS = {
    "gguf": measure_gguf, "onnx": measure_onnx, "runtime": measure_runtimes,
    "search": measure_search,
}  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="embedded:base")
    parser.add_argument("--data", default="embedded:devices/train.jsonl")
    parser.add_argument("--validation", help="default: split off")
    parser.add_argument("--test", default="embedded:devices/test.jsonl")
    parser.add_argument("--part", action="append", choices=tuple(PARTS))
    parser.add_argument("--scheme", action="append", choices=STOCK, help="default: all four")
    parser.add_argument("--rows", type=int, default=200, help="test rows that judge")
    parser.add_argument("--bits", type=float, default=4.9, help="a weight; 0: no such file")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--steps", type=int, default=300, help="of QAT; 0: none")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=0.015, help="in quantization steps")
    parser.add_argument("--quick", action="store_true", help="few rows and steps; nothing is kept")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    args = parser.parse_args()
    args.scheme, args.part = args.scheme or list(STOCK), args.part or ["gguf", "onnx", "runtime"]
    if args.quick:
        args.rows, args.steps, args.scheme = 16, 4, [ANCHOR]
    for part in args.part:
        with tempfile.TemporaryDirectory() as scratch:
            judge = Judge(args, Path(scratch))
            row: dict[str, Any] = {
                "part": part, "model": Path(args.model).name, "data": Path(args.data).name,
                "rows": len(judge.encoded), "positions": sum(judge.lengths),
                "steps": args.steps, "learning_rate": args.learning_rate, "batch": args.batch,
                "cores": os.cpu_count(), **PARTS[part](args, judge, Path(scratch)),
            }  # fmt: skip
        keep(row, args.quick)


if __name__ == "__main__":
    main()
