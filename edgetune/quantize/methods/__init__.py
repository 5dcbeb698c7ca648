"""METHODS: the quantization methods, one row each.

A new method is one file here with ``quantize_file(job)`` and one row: recipe validation, the
choices of ``--method``, the types a search may choose and calibration read the row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgetune.errors import InputError, nearest

if TYPE_CHECKING:  # the recipe's choices come from here, and a recipe is read without torch
    from pathlib import Path

    import numpy as np

    from edgetune.log import Log
    from edgetune.quantize.calibration.rows import Texts
    from edgetune.quantize.candidates import Candidates
    from edgetune.quantize.search.budget import Budget


@dataclass(frozen=True)
class Job:
    """One file whose tensors a method quantizes.

    Attributes:
        model: the merged folder.
        loaded: the same in torch, float32.
        candidates: its matrices, and their bytes in every type.
        types: tensor name to type, as the search chose them.
        texts: calibration, training and held-out rows.
        settings: the method's recipe section, or none.
        seed: of everything random.
        out: the stage's folder.
        file: name of the file, in messages and checkpoints.
        log: where progress goes.
    """

    model: Path
    loaded: Any
    candidates: Candidates
    types: Mapping[str, str]
    texts: Texts
    settings: Any
    seed: int
    out: Path
    file: str
    log: Log


def _all_types() -> tuple[str, ...]:
    from edgetune.quantize.formats.types import GGUF

    return GGUF.names


def _codec_types() -> tuple[str, ...]:
    from edgetune.quantize.formats.types import GGUF

    return GGUF.codec_types


def _autoround_types() -> tuple[str, ...]:
    from edgetune.quantize.methods.autoround_types import GGML_TYPES

    return GGML_TYPES


@dataclass(frozen=True)
class Method:
    """One quantization method.

    Attributes:
        summary: what it does, for help and reference.
        module: the module of this package whose ``quantize_file(job)`` returns the bytes of
            tensors and facts; none where the candidates' bytes are the file's.
        section: its settings, ``quantize.<section>``, or none.
        gguf_types: the types of a GGUF file that it can produce; of ONNX graphs all can.
        needs_hessian: candidates are rounded by GPTQ, with a Hessian per matrix.
        needs_held_out: its result is kept only if better on two held-out rows or more.
        trains: it reads training rows.
        requires_budget: what it does to the file of a budget, where it needs one.
    """

    summary: str
    module: str | None = None
    section: str | None = None
    gguf_types: Callable[[], tuple[str, ...]] = _all_types
    needs_hessian: bool = False
    needs_held_out: bool = False
    trains: bool = False
    requires_budget: str | None = None

    def quantize_file(self, job: Job) -> tuple[Mapping[str, np.ndarray], dict[str, Any]]:
        """Return tensor name to bytes, rows in the model's order, and facts of what changed."""
        assert self.module is not None
        module = import_module(f"{__name__}.{self.module}")  # trainers take 190 MB: on use only
        quantize: Callable[..., tuple[Mapping[str, np.ndarray], dict[str, Any]]]
        quantize = module.quantize_file
        return quantize(job)


METHODS: dict[str, Method] = {
    "gptq": Method(
        "error compensation within each matrix (GPTQ) and along the model (GPTAQ)",
        module="gptaq",
        needs_hessian=True,
    ),
    "rtn": Method("round to nearest, each weight by itself, as ggml does"),
    "autoround": Method(
        "AutoRound's signed gradient descent (GGUF: Q4_0, Q5_0 and Q8_0)",
        module="autoround",
        section="autoround",
        gguf_types=_autoround_types,
        needs_held_out=True,
        requires_budget="rounded by AutoRound",
    ),
    "qat": Method(
        "quantization-aware training: fake quantization with a straight-through estimator",
        module="qat",
        section="qat",
        gguf_types=_codec_types,
        needs_hessian=True,
        needs_held_out=True,
        trains=True,
        requires_budget="trained",
    ),
}


def types_of(method: str, wanted: Sequence[str], container: str) -> tuple[str, ...]:
    """Return the types that a search may choose for a matrix, most bits first.

    Args:
        method: a key of :data:`METHODS`.
        wanted: ``quantize.types``; all where it is empty.
        container: ``gguf`` or ``onnx``.

    Raises:
        InputError: a name that is no type, or none that this method produces in such files.
    """
    from edgetune.quantize.formats.types import GGUF, ONNX  # they bring torch

    possible = METHODS[method].gguf_types() if container == "gguf" else ONNX.names
    known = {*GGUF.names, *ONNX.names}
    for name in wanted:
        if name not in known:
            raise InputError(
                f"no type '{name}'{nearest(name, known)}",
                where="quantize.types",
                hint=f"for {container} files one of {', '.join(possible)}",
            )
    kept = tuple(name for name in possible if not wanted or name in wanted)
    if not kept:
        raise InputError(
            f"method {method} gives matrices of {container} files none of {', '.join(wanted)}",
            where="quantize.types",
            hint=f"one of {', '.join(possible)}",
        )
    return kept


def check_method(method: str, types: Sequence[str], budgets: Sequence[Budget]) -> None:
    """Refuse a method or types that only the file of a budget uses, where there is none.

    Raises:
        InputError: a key that would have no effect, or types the method cannot produce.
    """
    if budgets:
        for container in sorted({budget.format for budget in budgets}) if types else ():
            types_of(method, types, container)
        return
    hint = "add a quantize.budget, such as bits=5"
    action = METHODS[method].requires_budget
    if action:
        raise InputError(
            f"no budget is given, so no file is {action}", where="quantize.method", hint=hint
        )
    if types:
        raise InputError(
            "no budget is given, so no types are searched", where="quantize.types", hint=hint
        )
