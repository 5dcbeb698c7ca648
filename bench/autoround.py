"""Who decides the codes of a Q4_0 file: ggml with the importance matrix, or AutoRound.

    python bench/autoround.py --model merged/ --data rows.jsonl --test test.jsonl --json

Two files of the same types and bytes, Q4_0 wherever rows hold it: all roundings ggml's; and the
matrices of the decoder layers as AutoRound decides them on the same calibration rows, whether or
not that helped (`edgetune quantize` keeps it only if it did). Both run in llama.cpp and are
compared with the model on test rows, position by position. Ends with ``kl_ratio_autoround``
(AutoRound over ggml) and its paired 95 % interval over rows. Without --model the embedded base is
taken with its own rows.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from quality import ROOT, Judge, ratio  # noqa: E402 - the paths are known now

from edgetune.export.gguf.converter import GgufHeader  # noqa: E402
from edgetune.export.gguf.f32 import convert_gguf  # noqa: E402
from edgetune.export.gguf.support import find_architecture  # noqa: E402
from edgetune.export.gguf.write import Quantization, write_gguf  # noqa: E402
from edgetune.export.trial import gguf_writer  # noqa: E402
from edgetune.log import Log  # noqa: E402
from edgetune.models.load import load_model  # noqa: E402
from edgetune.models.ref import ModelRef  # noqa: E402
from edgetune.models.resolve import resolve_model  # noqa: E402
from edgetune.models.tokenizer_files import load_tokenizer  # noqa: E402
from edgetune.quantize.calibration.activations import collect_activation_stats  # noqa: E402
from edgetune.quantize.calibration.imatrix import name_for_gguf, read_imatrix, write_imatrix  # noqa: E402
from edgetune.quantize.calibration.rows import choose_texts  # noqa: E402
from edgetune.quantize.candidates import Candidates  # noqa: E402
from edgetune.quantize.methods.autoround import find_roundable, run_autoround  # noqa: E402
from edgetune.quantize.row_order import order_rows  # noqa: E402
from edgetune.quantize.weights import find_weights  # noqa: E402
from edgetune.recipe import Recipe, Sections  # noqa: E402
from edgetune.runtimes.gguf_header import open_gguf  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "autoround.jsonl"
TYPE = "Q4_0"


def make_files(args: argparse.Namespace, folder: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """Return name to file, and what there is to say of how they were made."""
    model, log = resolve_model(args.model), Log(None, quiet=True)
    recipe = Recipe.model_validate(
        {
            "model": {"path": args.model},
            "data": {"train": args.data, "test": args.test, "max_length": args.max_length},
            "quantize": {
                "calibration_rows": args.calibration_rows,
                "method": "autoround",
                "autoround": {"iterations": args.iterations},
            },
        }
    )
    assert recipe.quantize is not None
    texts = choose_texts(Sections(recipe, ("data", "quantize")), model, log)
    loaded = load_model(ModelRef(model))
    names = find_architecture(model)
    assert names is not None
    energy = collect_activation_stats(loaded, texts.calibration, log)
    write_imatrix(name_for_gguf(energy, *names), folder / "imatrix.gguf", "train rows")
    importance = read_imatrix(folder / "imatrix.gguf")
    convert_gguf(model, folder / "F32.gguf", GgufHeader("bench"))
    source = open_gguf(folder / "F32.gguf")
    shapes = {name: tuple(tensor.shape) for name, tensor in source.tensors.items()}
    weights = find_weights(loaded, *names[:2], shapes, energy)
    candidates = Candidates(loaded, weights, folder / "candidates")
    candidates.make([TYPE], log)
    types = {name: TYPE if name in candidates.weights else "F32" for name in shapes}
    files = {name: folder / f"{name}.gguf" for name in ("ggml", "autoround")}
    gguf_writer(source, importance, loaded, candidates)(files["ggml"], types)

    tuned = load_model(ModelRef(model))
    own = dict.fromkeys(candidates.weights, TYPE)
    chosen = find_roundable(tuned, candidates.weights, own)
    began = time.monotonic()
    raw = run_autoround(
        tuned, load_tokenizer(model), chosen, texts.calibration, recipe.quantize.autoround, 0
    )
    seconds = time.monotonic() - began
    ready = {
        name: order_rows(rows, source, candidates.weights[name], loaded)
        for name, rows in raw.items()
    }
    write_gguf(source, files["autoround"], Quantization("bench", types, importance, ready))
    tokens = sum(map(len, texts.calibration))
    return files, {"matrices": len(raw), "tokens": tokens, "autoround_s": round(seconds, 1)}


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the figures of one model."""
    judge = Judge(args, folder)
    files, facts = make_files(args, folder)
    sums = {name: judge.divergences(path) for name, path in files.items()}
    total = sum(judge.lengths)
    against = ratio(sums["autoround"], sums["ggml"])
    return {
        "model": Path(args.model).name, "rows": len(judge.lengths), "positions": total,
        "files": {
            name: {"bytes": path.stat().st_size, "kl": sum(sums[name]) / total}
            for name, path in files.items()
        },
        "kl_ratio_autoround": against["ratio"], "ci95": against["ci95"],
        "iterations": args.iterations, "calibration_rows": args.calibration_rows, **facts,
        "cores": os.cpu_count(),
    }  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="embedded:base")
    parser.add_argument("--data", default="embedded:devices/train.jsonl")
    parser.add_argument("--test", default="embedded:devices/test.jsonl")
    parser.add_argument("--rows", type=int, default=200, help="test rows that judge")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--iterations", type=int, default=200, help="of AutoRound, a layer")
    parser.add_argument("--calibration-rows", type=int, default=256)
    parser.add_argument("--quick", action="store_true", help="few rows and steps; nothing is kept")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.iterations, args.calibration_rows = 16, 4, 16
    with tempfile.TemporaryDirectory() as scratch:
        row = measure(args, Path(scratch))
    if not args.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
    print(json.dumps(row))


if __name__ == "__main__":
    main()
