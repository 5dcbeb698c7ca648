"""The quantization plan: which type every tensor of every file gets, and on what ground."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgetune.disk import write_atomic
from edgetune.errors import InputError
from edgetune.log import Log, counted
from edgetune.quantize.formats.ggml import fits_rows
from edgetune.quantize.formats.llama_quantize import stock_types
from edgetune.quantize.search.budget import Budget
from edgetune.recipe.aliases import MATRIX_TYPES

NAME, IMATRIX = "plan.json", "imatrix.gguf"
QUANTS = "trained"  # folder beside it: the bytes of tensors that were trained, a file each
# ggml's Q4_0 and Q8_0 are what ONNX Runtime's MatMulNBits computes with: blocks of 32 along the
# input, one scale, a fixed zero point. Level 4 multiplies in int8, which adds a KL of about 3e-4;
# level 1 keeps activations float32, at half the speed in 4 bits and a ninth in 8 (docs/LOG.md).
# The head keeps 8 bits, where a rounding error goes straight into the distribution; so does the
# embedding, which is a lookup, and the same tensor where the two are tied.
_BLOCKS = {"accuracy_level": 4, "head": "Q8_0", "embedding": "Q8_0"}
ONNX_SETTINGS: dict[str, dict[str, Any]] = {
    "fp32": {"weights": "F32"},
    "fp16": {"weights": "F16"},
    "int8": {"weights": "Q8_0", **_BLOCKS},
    "int4": {"weights": "Q4_0", **_BLOCKS},
}


def settings_of(types: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of an ONNX file whose nodes have these types; 8 bits where none is."""
    return {**ONNX_SETTINGS["int8"], "types": dict(types)}


@dataclass(frozen=True)
class Plan:
    """What export writes.

    Attributes:
        gguf: scheme to tensor name to ggml type.
        onnx: precision to its settings, see :data:`ONNX_SETTINGS`; a searched file's also have
            ``types``, the type of single nodes.
        fallbacks: ``{"scheme", "tensor", "wanted", "got", "why"}``.
        imatrix_sha256: hash of the importance matrix, or none.
        calibration: ``{"rows", "tokens", "sha256", "split"}``, or empty.
        budgets: file, such as ``auto-2.5MB.gguf``, to the most bytes that it may have.
    """

    gguf: dict[str, dict[str, str]]
    onnx: dict[str, dict[str, Any]]
    fallbacks: list[dict[str, str]] = field(default_factory=list)
    imatrix_sha256: str | None = None
    calibration: dict[str, Any] = field(default_factory=dict)
    budgets: dict[str, int] = field(default_factory=dict)


def plan_gguf(
    source: Path, schemes: Sequence[str], importance: Mapping[str, np.ndarray] | None
) -> tuple[dict[str, dict[str, str]], list[dict[str, str]]]:
    """Return llama.cpp's own mix for each scheme, and where shapes forced another type.

    Args:
        source: the model as an F32 GGUF file.
        schemes: such as ``Q4_K_M``.
        importance: as it will be used; llama.cpp's choice depends on whether there is one.
    """
    types: dict[str, dict[str, str]] = {}
    fallbacks: list[dict[str, str]] = []
    for scheme in schemes:
        mix = stock_types(source, scheme, importance)
        types[scheme] = mix.types
        fallbacks += [{"scheme": scheme, **fallback} for fallback in mix.fallbacks]
    return types, fallbacks


def check_types(
    gguf: Mapping[str, Mapping[str, str]], shapes: Mapping[str, tuple[int, ...]], path: Path
) -> None:
    """Refuse the plan of another model before any file is written.

    Args:
        gguf: as :attr:`Plan.gguf`.
        shapes: of the model's tensors, outermost dimension first.
        path: the plan.

    Raises:
        InputError: a tensor that only one of them has, or rows that a type cannot hold.
    """
    hint = "make one of this model: edgetune quantize --model …"
    for scheme, types in gguf.items():
        odd = next((name for name in (*types, *shapes) if (name in types) != (name in shapes)), "")
        if odd:
            fault = "a type" if odd in types else "no type"
            other = "the model lacks" if odd in types else "the model has"
            raise InputError(
                f"this plan has {fault} for the tensor '{odd}', which {other}",
                where=f"{path}: gguf.{scheme}",
                hint=hint,
            )
        for name, kind in types.items():
            if not fits_rows(shapes[name][-1], kind):
                raise InputError(
                    f"this plan gives '{name}' the type {kind}, whose blocks do not divide its "
                    f"rows of {shapes[name][-1]}",
                    where=f"{path}: gguf.{scheme}",
                    hint=hint,
                )


def hash_sequences(sequences: Sequence[Sequence[int]]) -> str:
    """Return the SHA-256 of token sequences, so that a plan names its calibration data."""
    text = json.dumps([list(ids) for ids in sequences], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def describe_calibration(sequences: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return what :attr:`Plan.calibration` keeps of the calibration rows' token ids."""
    return {
        "split": "train",
        "rows": len(sequences),
        "tokens": sum(map(len, sequences)),
        "sha256": hash_sequences(sequences),
    }


def log_plan(plan: Plan, weighted: int, log: Log) -> None:
    """Log what a plan holds, and where shapes forced another type."""
    tokens = plan.calibration.get("tokens", 0)
    log.say(
        f"{counted(len(plan.gguf), 'GGUF scheme')}, {counted(len(plan.onnx), 'ONNX precision')}; "
        f"importance of {counted(weighted, 'tensor')} from {counted(tokens, 'token')}"
    )
    for scheme in plan.gguf:
        count = sum(fallback["scheme"] == scheme for fallback in plan.fallbacks)
        if count:
            log.warn(f"{scheme}: {counted(count, 'tensor')} with rows that its types cannot hold")


def write_plan(plan: Plan, folder: Path) -> None:
    """Write ``plan.json``."""
    write_atomic(folder / NAME, json.dumps(asdict(plan), indent=1, ensure_ascii=False))


def write_quants(
    folder: Path,
    file: str,
    raw: Mapping[str, np.ndarray],
    order: Callable[[str, np.ndarray], np.ndarray],
) -> None:
    """Write the bytes of a file's tensors beside the plan, a tensor at a time.

    Args:
        folder: of the plan.
        file: as in :func:`read_quants`.
        raw: tensor name to its bytes, uint8.
        order: returns them in the order of the file's rows.
    """
    import torch  # reports read plans without it

    from edgetune.models.safetensors_writer import Entry, write_shard

    path = folder / QUANTS / f"{file}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [Entry(name, name, raw[name].shape, torch.uint8) for name in raw]

    def read(entry: Entry) -> torch.Tensor:
        return torch.from_numpy(order(entry.name, raw[entry.name]))

    write_shard(path, entries, read, {})


def read_quants(folder: Path, file: str) -> dict[str, np.ndarray]:
    """Return tensor name to its bytes, uint8 [rows, row_bytes], in the order of the file's rows.

    Args:
        folder: of the plan.
        file: name and format, such as ``auto-Q4_K_M.gguf``; none where all of it
            is rounded to nearest.
    """
    from safetensors.numpy import load_file

    for name in (QUANTS, "trained"):  # the folder of plans of earlier versions
        path = folder / name / f"{file}.safetensors"
        if path.is_file():
            return dict(load_file(path))
    return {}


def read_plan(folder: Path) -> Plan:
    """Read ``plan.json``.

    Raises:
        InputError: there is none, or it holds something else.
    """
    path = folder / NAME
    try:
        plan = Plan(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"no readable quantization plan: {error}", where=str(path)) from error
    for settings in plan.onnx.values():  # plans written before these types had their names
        types: dict[str, str] = settings.get("types", {})
        types.update((name, MATRIX_TYPES.get(kind, kind)) for name, kind in types.items())
    return plan


def warn_of_refused(
    budgets: Sequence[Budget],
    chosen: Mapping[str, Mapping[str, Mapping[str, str]]],
    refused: Mapping[str, Sequence[str]],
    log: Log,
) -> None:
    """Warn of each file that has a budget and cannot be made.

    Args:
        budgets: of the files.
        chosen: container to file name to the types that the search chose.
        refused: container to why none of its files can be made.
        log: where the warnings go.
    """
    for budget in budgets:
        if budget.name not in chosen[budget.format]:
            log.warn(f"no {budget.name}.{budget.format}: {'; '.join(refused[budget.format])}")
