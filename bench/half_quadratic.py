"""HQQ beside rounding to nearest and GPTQ at equal bytes: KL on test rows and seconds.

    python bench/half_quadratic.py --json

Half-quadratic quantization (Badri & Shaji 2023, mobiusml.github.io/hqq_blog) is calibration-free:
the rounding error W - W' is split into a sparse part E, which an l_p norm with p < 1 leaves to a
few outliers, and the rest, which the block's scale and zero point fit by least squares; both are
solved in turn. Zero points are rounded to quants, which is what MatMulNBits files hold; Q4_0 has
none. It starts from the rounding of quantize.formats, without and with an importance matrix.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np  # noqa: E402 - the paths are known now
from quality import Judge  # noqa: E402

from edgetune.export.gguf.converter import GgufHeader  # noqa: E402
from edgetune.export.gguf.f32 import convert_gguf  # noqa: E402
from edgetune.export.gguf.support import find_architecture  # noqa: E402
from edgetune.log import Log  # noqa: E402
from edgetune.models.load import load_model  # noqa: E402
from edgetune.models.ref import ModelRef  # noqa: E402
from edgetune.models.resolve import resolve_model  # noqa: E402
from edgetune.quantize.calibration.activations import collect_activation_stats  # noqa: E402
from edgetune.quantize.calibration.kl_meter import KLMeter  # noqa: E402
from edgetune.quantize.calibration.layer_passes import open_hessians  # noqa: E402
from edgetune.quantize.calibration.rows import choose_texts  # noqa: E402
from edgetune.quantize.formats.nbits import pack_bits  # noqa: E402
from edgetune.quantize.formats.types import GGUF, ONNX  # noqa: E402
from edgetune.quantize.methods.gptq import Gptq, find_readers  # noqa: E402
from edgetune.quantize.weights import find_weights  # noqa: E402
from edgetune.recipe import Recipe, Sections  # noqa: E402
from edgetune.runtimes.gguf_header import open_gguf  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "half_quadratic.jsonl"
TYPES = {"Q4_0": GGUF, "uint4_g32": ONNX}  # one scale per block
P_NORM, BETA, GROWTH, ITERATIONS = 0.7, 10.0, 1.01, 20  # of the paper; beta in quantization steps


def fit_half_quadratic(values_RC: np.ndarray, raw: np.ndarray, codec: Any) -> np.ndarray:
    """Return the rows ``raw`` with the quants, scales and zero points of the least l_1 error."""
    best, best_R = raw, _read_error(values_RC, raw, codec)
    beta = BETA
    for _ in range(ITERATIONS):
        unpacked = codec.unpack(raw)
        blocks = unpacked.scale_RB.shape[1]
        values_RBW = values_RC.reshape(len(raw), blocks, -1)
        quants_RBW = unpacked.quants_RC.reshape(values_RBW.shape).astype(np.float32)
        has_zeros = unpacked.zero_RB is not None
        zero_RB1 = (unpacked.zero_RB if has_zeros else np.full((1, 1), codec.zero))[..., None]
        scale_RB1 = np.where(unpacked.scale_RB == 0, 1, unpacked.scale_RB)[..., None]
        # 1. The sparse part of the error: a soft threshold of the l_p norm, in steps.
        error_RBW = values_RBW / scale_RB1 - (quants_RBW - zero_RB1)
        size_RBW = np.abs(error_RBW)
        kept_RBW = size_RBW - np.maximum(size_RBW, 1e-8) ** (P_NORM - 1) / beta
        sparse_RBW = np.sign(error_RBW) * np.maximum(kept_RBW, 0) * scale_RB1
        # 2. The zero point, and the scale, that fit the rest; 3. the quants that follow from them.
        target_RBW = values_RBW - sparse_RBW
        if has_zeros:
            zero_RB1 = (quants_RBW - target_RBW / scale_RB1).mean(-1, keepdims=True)
            zero_RB1 = np.clip(np.rint(zero_RB1), codec.first, codec.last)
        centred_RBW = quants_RBW - zero_RB1
        square_RB = np.maximum((centred_RBW**2).sum(-1), 1e-30)
        scale_RB = np.clip((centred_RBW * target_RBW).sum(-1) / square_RB, -65504, 65504)
        raw = codec.write_super_scales(raw, scale_RB[..., None].astype(np.float32))
        scale_RB1 = codec.unpack(raw).scale_RB[..., None]
        steps_RBW = values_RBW / np.where(scale_RB1 == 0, 1, scale_RB1) + zero_RB1
        quants_RC = np.clip(np.rint(steps_RBW), codec.first, codec.last).reshape(values_RC.shape)
        raw = codec.pack(raw, quants_RC.astype(np.uint8))
        if has_zeros:
            zeros_RY = pack_bits(zero_RB1[..., 0].astype(np.uint8), 4)
            raw[:, 2 * blocks : 2 * blocks + zeros_RY.shape[1]] = zeros_RY
        found_R = _read_error(values_RC, raw, codec)
        better_R = found_R < best_R
        if not better_R.any():
            break
        best = np.where(better_R[:, None], raw, best)
        best_R = np.minimum(best_R, found_R)
        beta *= GROWTH
    return best


def _read_error(values_RC: np.ndarray, raw: np.ndarray, codec: Any) -> np.ndarray:
    """Return the mean absolute error of each row."""
    unpacked = codec.unpack(raw)
    zero_RB = np.full((1, 1), codec.zero) if unpacked.zero_RB is None else unpacked.zero_RB
    quants_RBW = unpacked.quants_RC.reshape(*unpacked.scale_RB.shape, -1).astype(np.float32)
    read_RBW = (quants_RBW - zero_RB[..., None]) * unpacked.scale_RB[..., None]
    error_R: np.ndarray = np.abs(values_RC - read_RBW.reshape(values_RC.shape)).mean(1)
    return error_R


def measure(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Return a row per type: KL and seconds of each method, every method once a round."""
    path, log = resolve_model(args.model), Log(None, quiet=True)
    recipe = Recipe.model_validate(
        {
            "model": {"path": args.model},
            "data": {"train": args.data, "test": args.test, "max_length": args.max_length},
            "quantize": {"calibration_rows": args.calibration_rows},
        }
    )
    calibration = choose_texts(Sections(recipe, ("data", "quantize")), path, log).calibration
    model, names = load_model(ModelRef(path)), find_architecture(path)
    assert names is not None
    convert_gguf(path, folder / "F32.gguf", GgufHeader("bench"))
    tensors = open_gguf(folder / "F32.gguf").tensors
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    stats = collect_activation_stats(model, calibration, log)
    weights = {one.tensor: one for one in find_weights(model, *names[:2], shapes, stats)}
    values = {tensor: weight.read(model) for tensor, weight in weights.items()}
    rows = [row.ids for row in Judge(args, folder).encoded]
    meter = KLMeter(model, rows, sum(map(len, rows)))
    found = []
    for kind, types in TYPES.items():
        codec = types.codec(kind)
        made: dict[str, dict[str, np.ndarray]] = {}
        seconds: dict[str, list[float]] = {}

        def make_rtn(imatrix: bool, kind: str = kind, types: Any = types) -> dict[str, np.ndarray]:
            return {
                name: types.quantize(values[name], kind, one.importance if imatrix else None, name)
                for name, one in weights.items()
            }

        def make_hqq(start: str, codec: Any = codec, made: Any = made) -> dict[str, np.ndarray]:
            return {
                name: fit_half_quadratic(values[name], raw, codec)
                for name, raw in made[start].items()
            }

        def make_gptq(codec: Any = codec, made: Any = made) -> dict[str, np.ndarray]:
            readers = find_readers(model, list(weights.values()))
            rounded = dict(made["rtn_imatrix"])
            with open_hessians(model, calibration, "cpu", folder) as hessians:
                for layer in sorted({reader.layer for reader in readers.values()}):
                    here = {
                        n: reader.module for n, reader in readers.items() if reader.layer == layer
                    }
                    found = hessians.of(layer, list(here.values()))
                    for name, module in here.items():
                        gptq = Gptq(found[module])
                        rounded[name] = gptq.round(values[name], rounded[name], codec)
            return rounded

        methods: dict[str, Callable[[], dict[str, np.ndarray]]] = {
            "rtn": lambda make=make_rtn: make(False),
            "rtn_imatrix": lambda make=make_rtn: make(True),
            "hqq": lambda make=make_hqq: make("rtn"),
            "hqq_imatrix": lambda make=make_hqq: make("rtn_imatrix"),
            "gptq": make_gptq,
        }
        for _ in range(args.rounds):
            for name, make in methods.items():
                began = time.monotonic()
                made[name] = make()
                seconds.setdefault(name, []).append(round(time.monotonic() - began, 2))
        kl = {}
        for name, raw in made.items():
            changed: dict[str, Any] = {}
            for tensor, one in weights.items():
                changed |= one.as_parameters(types.read(raw[tensor], kind))
            kl[name] = meter.measure(changed)
        sizes = {sum(raw.nbytes for raw in one.values()) for one in made.values()}
        assert len(sizes) == 1, "unequal bytes"
        found.append(
            {
                "model": Path(args.model).name, "type": kind, "tensors": len(weights),
                "bytes": sizes.pop(), "rows": len(rows), "positions": meter.positions,
                "calibration_rows": len(calibration), "kl": kl,
                "seconds": seconds, "cores": os.cpu_count(),
            }
        )  # fmt: skip
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="embedded:base")
    parser.add_argument("--data", default="embedded:devices/train.jsonl")
    parser.add_argument("--test", default="embedded:devices/test.jsonl")
    parser.add_argument("--rows", type=int, default=200, help="test rows that KL is measured on")
    parser.add_argument("--calibration-rows", type=int, default=256)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3, help="of all methods, for the seconds")
    parser.add_argument("--quick", action="store_true", help="few rows; nothing is kept")
    parser.add_argument("--json", action="store_true", help="end with one JSON line per type")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.calibration_rows, args.rounds = 16, 16, 1
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure(args, Path(scratch))
    for row in rows:
        if not args.quick:
            with RESULTS.open("a") as file:
                file.write(json.dumps(row) + "\n")
        print(json.dumps(row))


if __name__ == "__main__":
    main()
