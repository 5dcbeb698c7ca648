"""Differences between tensors, each under the name of a known fault."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgetune.diagnose.tensors import Tensors

#: Error of rounding to a type, relative to the tensor's norm: what storing it may cost.
ROUNDING = {"F32": 1e-6, "F16": 5e-4, "BF16": 4e-3, "F64": 1e-9}
#: … and for block types, of normally distributed weights; used where ggml cannot be asked.
BLOCK_ROUNDING = {"int8": 0.01, "int4": 0.13, "int2": 0.6}
#: ggml's types in the order of their error, and the error itself, for telling an earlier rounding.
GRIDS = ("Q2_K", "Q3_K", "Q4_0", "Q4_K", "Q5_0", "Q5_K", "Q6_K", "Q8_0")
SLACK = 1.35  # an importance matrix trades plain error for weighted error: up to 1.2 was seen


@dataclass(frozen=True)
class TensorDifference:
    """One tensor's difference.

    Attributes:
        tensor: its name.
        fault: ``missing``, ``zeroed``, ``transposed``, ``rows_not_permuted``, ``scaled``,
            ``rounded``, ``quantized_twice``, ``wrong_precision``, ``shape`` or ``differs``.
        what: with the numbers.
        severity: its error in units of what storing it explains; infinite where it cannot be used.
    """

    tensor: str
    fault: str
    what: str
    severity: float = math.inf


def diff_tensors(
    wanted: Tensors,
    found: Tensors,
    expected_type: Callable[[str], str] | None = None,
    heads: dict[str, int] | None = None,
) -> list[TensorDifference]:
    """Compare every tensor of ``wanted`` with its namesake.

    Args:
        wanted: what the file was made of, in full precision.
        found: the file.
        expected_type: what type the file's scheme gives a tensor, where one is known.
        heads: attention heads by tensor name, for the row order of query and key weights.
    """
    damages = []
    for name, entry in wanted.entries.items():
        if name not in found.entries:
            damages.append(TensorDifference(name, "missing", "it is not in the file"))
            continue
        got = found.entries[name]
        lower = expected_type(name) if expected_type else None
        if lower is not None and bits_of(got.type) < 0.9 * bits_of(lower):
            what = f"stored as {got.type}, where the file's scheme has {lower}"
            damages.append(TensorDifference(name, "wrong_precision", what))
            continue
        if got.shape != entry.shape:
            turned = got.shape == entry.shape[::-1]
            what = f"its shape is {got.shape}, not {entry.shape}"
            damages.append(TensorDifference(name, "transposed" if turned else "shape", what))
            continue
        values = wanted.read(name)
        damage = _compare(name, values, found.read(name), got.type, (heads or {}).get(name))
        if damage is not None:
            damages.append(damage)
    return damages


def bits_of(kind: str) -> float:
    """Return the bits per weight of a type; 32 for one that ggml does not have."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if kind.startswith("int"):
        return float(kind[3:])
    try:
        count, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    except KeyError:
        return 32.0
    return 8.0 * size / count


def _compare(
    name: str, wanted: np.ndarray, found: np.ndarray, kind: str, heads: int | None
) -> TensorDifference | None:
    norm = float(np.linalg.norm(wanted)) or 1.0
    error = float(np.linalg.norm(found - wanted)) / norm
    if not np.isfinite(error):
        return TensorDifference(name, "differs", "it holds values that are not finite")
    if error <= ROUNDING.get(kind, 0.0) * 2 + 1e-7:
        return None
    allowed = own_rounding(wanted, kind)
    if error <= SLACK * allowed + 1e-7:
        return None
    if not found.any():
        return TensorDifference(name, "zeroed", "every value is zero")
    near = max(3 * allowed, 0.02)
    severity = error / (allowed + 1e-7)
    if kind == "F32" and error <= 2 * ROUNDING["BF16"] and is_bfloat16(found):
        what = f"its values are rounded to bfloat16, by {error:.2%} of its norm"
        return TensorDifference(name, "rounded", what, severity)

    def fits(other: np.ndarray) -> bool:
        same = other.shape == found.shape
        return same and float(np.linalg.norm(found - other)) / norm <= SLACK * allowed + 0.02

    if wanted.ndim == 2 and fits(wanted.T):
        return TensorDifference(
            name, "transposed", "it is the transpose of what it should be", severity
        )
    if wanted.ndim == 2 and heads:
        for other in (permute_rows(wanted, heads), unpermute_rows(wanted, heads)):
            if fits(other):
                what = f"its rows are in another order of the {heads} heads' rotary pairs"
                return TensorDifference(name, "rows_not_permuted", what, severity)
    scale = float((found * wanted).sum()) / norm**2
    rest = float(np.linalg.norm(found - scale * wanted)) / norm
    if rest <= SLACK * allowed * max(scale, 1) + 1e-6 and abs(scale - 1) > near / 4:
        return TensorDifference(
            name, "scaled", f"it is {scale:.3g} times what it should be", severity
        )
    earlier = find_coarser_grid(found, kind, allowed)
    if earlier is not None:
        what = f"its values lie on the {earlier} grid though it is stored as {kind}: "
        return TensorDifference(
            name, "quantized_twice", what + "rounded before it was written", severity
        )
    what = f"it differs by {error:.2%} of its norm; storing it as {kind} costs {allowed:.2%}"
    return TensorDifference(name, "differs", what, severity)


def is_bfloat16(values: np.ndarray) -> bool:
    """Whether every value is a bfloat16, the upper half of a float32."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return not bool((bits & 0xFFFF).any())


def own_rounding(values: np.ndarray, kind: str) -> float:
    """Return the relative error of storing ``values`` as ``kind``, by ggml itself where it can."""
    if kind in ROUNDING:
        return ROUNDING[kind]
    if kind in BLOCK_ROUNDING:
        return BLOCK_ROUNDING[kind]
    rounded = round_trip(values, kind)
    if rounded is None:
        return 0.2
    return float(np.linalg.norm(rounded - values) / (np.linalg.norm(values) or 1.0))


def round_trip(values: np.ndarray, kind: str) -> np.ndarray | None:
    """Return ``values`` quantized by ggml and dequantized, or none where the shape cannot be."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    from edgetune.errors import EdgetuneError
    from edgetune.quantize.formats.ggml import quantize_tensor

    try:
        raw = quantize_tensor(np.ascontiguousarray(values, np.float32), kind)
        restored: np.ndarray = dequantize(raw, GGMLQuantizationType[kind])
    except (EdgetuneError, KeyError, NotImplementedError):
        return None
    return restored.reshape(values.shape).astype(np.float32)


def find_coarser_grid(values: np.ndarray, kind: str, allowed: float) -> str | None:
    """Return the coarser ggml type whose grid ``values`` lie on already, if one is.

    Rounding weights to a type costs its error once; rounding them again to the same type costs
    next to nothing. Values that a coarser type leaves alone were rounded to it before.
    """
    for lattice in GRIDS:
        if bits_of(lattice) >= bits_of(kind):
            break
        again = round_trip(values, lattice)
        if again is None:
            continue
        norm = float(np.linalg.norm(values)) or 1.0
        moved = float(np.linalg.norm(again - values)) / norm
        usual = {"Q2_K": 0.3, "Q3_K": 0.15}.get(lattice, 0.5 ** (bits_of(lattice) - 1.2))
        if moved < 0.3 * usual and moved < 3 * max(allowed, 1e-3):
            return lattice
    return None


def permute_rows(weight: np.ndarray, heads: int) -> np.ndarray:
    """Return rows in llama.cpp's order of rotary pairs, from Hugging Face's order of halves."""
    rest = weight.shape[1:]
    shaped = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *rest)
    return np.ascontiguousarray(shaped.swapaxes(1, 2)).reshape(weight.shape)


def unpermute_rows(weight: np.ndarray, heads: int) -> np.ndarray:
    """Undo :func:`permute_rows`."""
    rest = weight.shape[1:]
    shaped = weight.reshape(heads, weight.shape[0] // heads // 2, 2, *rest)
    return np.ascontiguousarray(shaped.swapaxes(1, 2)).reshape(weight.shape)
