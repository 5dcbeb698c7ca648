"""Time a matrix in each type that ONNX Runtime has for it, one token at a time.

    python bench/onnx_types.py --shape 256x2048 --threads 1

Every type of `edgetune.quantize.formats.nbits` as a row of MatMulNBits at accuracy level 4, taking
turns; prints and keeps the median microseconds of one and their share of Q4_0's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from edgetune.quantize.formats.nbits import NBITS_TYPES, layout_of, quantize_nbits, unpack_rows  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "onnx_types.jsonl"
NODES = 20  # in a session, so that calling it weighs little
ROUNDS = 60


def make_session(columns: int, rows: int, kind: str, threads: int) -> onnxruntime.InferenceSession:
    """Return a session that multiplies one row of ``columns`` with as many matrices of a type."""
    layout, random = layout_of(kind), np.random.default_rng(0)
    nodes, held = [], []
    for number in range(NODES):
        matrix = random.standard_normal((rows, columns), np.float32)
        packed = unpack_rows(quantize_nbits(matrix, kind), kind)
        parts = [packed.quants_RBY, packed.scales_RB.astype(np.float32)]
        parts += [] if packed.zeros_RY is None else [packed.zeros_RY]
        names = [f"{number}.{part}" for part in range(len(parts))]
        held += [numpy_helper.from_array(p, n) for p, n in zip(parts, names, strict=True)]
        nodes.append(
            helper.make_node(
                "MatMulNBits", ["x", *names], [f"y{number}"], domain="com.microsoft", K=columns,
                N=rows, bits=layout.bits, block_size=layout.block, accuracy_level=4,
            )
        )  # fmt: skip
    graph = helper.make_graph(
        nodes, "matrices", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, columns])],
        [helper.make_tensor_value_info(f"y{n}", TensorProto.FLOAT, [1, 1, rows])
         for n in range(NODES)], held,
    )  # fmt: skip
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def measure(columns: int, rows: int, threads: int) -> dict[str, float]:
    """Return the median microseconds of a matrix by type."""
    kinds = [kind for kind in NBITS_TYPES if columns % layout_of(kind).block == 0]
    sessions = {kind: make_session(columns, rows, kind, threads) for kind in kinds}
    token = {"x": np.random.default_rng(1).standard_normal((1, 1, columns), np.float32)}
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(ROUNDS + 1):
        for kind, session in sessions.items():
            began = time.perf_counter()
            session.run(None, token)
            if number:
                taken[kind].append(1e6 * (time.perf_counter() - began) / NODES)
    return {kind: round(statistics.median(each), 2) for kind, each in taken.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", action="append", help="columns x rows; default: the student's")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    for shape in args.shape or ["256x512", "256x768", "768x256", "256x2048"]:
        columns, rows = map(int, shape.split("x"))
        times = measure(columns, rows, args.threads)
        row = {
            "columns": columns, "rows": rows, "threads": args.threads, "microseconds": times,
            "over_Q4_0": {kind: round(one / times["Q4_0"], 3) for kind, one in times.items()},
            "onnxruntime": onnxruntime.__version__,
        }  # fmt: skip
        with RESULTS.open("a") as kept:
            kept.write(json.dumps(row) + "\n")
        print(json.dumps(row))


if __name__ == "__main__":
    main()
