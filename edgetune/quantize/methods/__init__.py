"""What matrices of a target's file may become, by who decides their codes and by the recipe."""

from __future__ import annotations

from collections.abc import Sequence

from edgetune.errors import InputError, nearest
from edgetune.quantize.search.budget import Target

#: Deciders whose files are rounded with feedback, trained or not.
WITH_FEEDBACK = ("gptq", "grid")


def types_of(decider: str, wanted: Sequence[str], kind: str) -> tuple[str, ...]:
    """Return what a matrix may become, most bits first.

    Args:
        decider: a ``quantize.method``.
        wanted: ``quantize.types``; all where it is empty.
        kind: ``gguf`` or ``onnx``.

    Raises:
        InputError: a name that is no type, or none that this method decides in such files.
    """
    # They bring torch, without which a recipe can be read.
    from edgetune.quantize.formats.types import GGUF, ONNX
    from edgetune.quantize.methods.autoround_types import GGML_TYPES

    possible = ONNX.names  # all deciders have them all
    if kind == "gguf":
        own = {"grid": GGUF.codec_types, "autoround": GGML_TYPES}
        possible = own.get(decider, GGUF.names)
    known = {*GGUF.names, *ONNX.names}
    for name in wanted:
        if name not in known:
            raise InputError(
                f"no type '{name}'{nearest(name, known)}", where="quantize.types",
                hint=f"for {kind} files one of {', '.join(possible)}",
            )  # fmt: skip
    kept = tuple(name for name in possible if not wanted or name in wanted)
    if not kept:
        raise InputError(
            f"method {decider} gives matrices of {kind} files none of {', '.join(wanted)}",
            where="quantize.types",
            hint=f"one of {', '.join(possible)}",
        )
    return kept


def refuse_deciding(decider: str, types: Sequence[str], targets: Sequence[Target]) -> None:
    """Refuse what only files with a target take, where there are none, and types they cannot have.

    Raises:
        InputError: of the key that would have no effect, or cannot be.
    """
    if targets:
        for kind in sorted({target.format for target in targets}) if types else ():
            types_of(decider, types, kind)
        return
    hint = "name a quantize.target, such as bits=5"
    if decider in ("grid", "autoround"):
        what = {"grid": "trained on its grid", "autoround": "rounded by AutoRound"}[decider]
        raise InputError(
            f"there is no file whose weights could be {what}", where="quantize.method", hint=hint
        )
    if types:
        raise InputError(
            "there is no file whose types are chosen", where="quantize.types", hint=hint
        )
