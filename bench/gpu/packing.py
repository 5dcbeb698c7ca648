"""NF4 on the GPU against the CPU: the same codes, the same scales, the same values.

An adapter that was tuned on a GPU is merged on the CPU, over weights that the CPU dequantizes.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch

from edgetune.models.nf4 import pack_nf4, through_nf4

SHAPES = ((64, 64), (33, 65), (1000, 96), (257, 4096), (4096, 4096))
SMALL = SHAPES[:3]


def compare(shape: tuple[int, int], dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Pack a matrix on both; tell the share of bytes that differ, and how far the values are."""
    torch.manual_seed(0)
    weight = (0.02 * torch.randn(shape)).to(dtype)
    packed = pack_nf4(weight)[0]
    began = time.perf_counter()
    other = pack_nf4(weight.to(device))[0]
    here, there = through_nf4(weight, dtype), through_nf4(weight.to(device), dtype).cpu()
    return {
        "shape": list(shape), "dtype": str(dtype).removeprefix("torch."),
        "bytes_that_differ": float((packed != other.cpu()).double().mean()),
        "values_off": float((here - there).norm() / here.norm()),
        "nf4_error": float((weight.float() - there).norm() / weight.float().norm()),
        "seconds": round(time.perf_counter() - began, 4),
    }  # fmt: skip


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true")
    cpu = parser.parse_args().cpu
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    rows = [
        compare(shape, dtype, "cpu" if cpu else "cuda")
        for shape in (SMALL if cpu else SHAPES) for dtype in dtypes
    ]  # fmt: skip
    faults = [
        f"{row['shape']} {row['dtype']}: {name} {row[name]:.1e}"
        for row in rows
        for name, limit in (("bytes_that_differ", 1e-3), ("values_off", 1e-3))
        if row[name] > limit
    ]
    # A weight of a normal distribution loses 9 % of its norm to NF4 (blocks of 64).
    faults += [f"{row['shape']}: NF4 loses {row['nf4_error']:.1%}" for row in rows
               if not 0.07 < row["nf4_error"] < 0.12]  # fmt: skip
    same = all(row["bytes_that_differ"] == row["values_off"] == 0 for row in rows)
    print(json.dumps({"faults": faults, "identical": same, "matrices": rows}))


if __name__ == "__main__":
    main()
