"""Our own copy of a model in another's types: how far away a right one is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgetune.compare.loaded import Side
from edgetune.compare.logits import Judged, compare_logits
from edgetune.compare.model_spec import Subject
from edgetune.diagnose.faults import expected_types
from edgetune.diagnose.reconvert import as_gguf, plain_folders
from edgetune.diagnose.tensor_diff import bits_of
from edgetune.errors import InputError, Unsupported
from edgetune.models.hardware import count_threads
from edgetune.models.ref import ModelRef
from edgetune.runtimes import Runtime
from edgetune.runtimes.gguf_header import open_gguf
from edgetune.runtimes.isolated import Isolated


def measure_own_copy(a: Subject, b: Subject, rows: Sequence[Judged], scratch: Path) -> float | None:
    """Return the KL in nats of ``a`` to its copy in the types of ``b``; ``None`` if there is none.

    A GGUF file is quantized anew without an importance matrix; a 16-bit folder is rounded.
    """
    try:
        runtime = _open_copy(a, b, scratch)
    except (Unsupported, KeyError):
        return None
    if runtime is None:
        return None
    try:
        first = a.open()
        try:
            return compare_logits(Side(a, first), Side(b, runtime), rows).kl_mean
        finally:
            first.close()
    finally:
        runtime.close()


def _open_copy(a: Subject, b: Subject, scratch: Path) -> Runtime | None:
    if b.format == "hf" and isinstance(a.target, ModelRef) and b.scheme in ("bfloat16", "float16"):
        from edgetune.runtimes.pytorch import open_rounded

        return open_rounded(a.target, b.scheme, count_threads())
    if b.format == "gguf":
        path = _requantize(a, b, scratch)
        return Isolated(path, count_threads()) if path else None
    return None


def _requantize(a: Subject, b: Subject, scratch: Path) -> Path | None:
    """Write ``a`` as a GGUF file with the types of ``b``, or those that its scheme should have."""
    from edgetune.export.gguf.write import write_gguf

    if a.format == "gguf":
        source = a.folder if a.scheme == "F32" else None
    elif a.format == "hf":
        _, merged = plain_folders(a, scratch)
        source = as_gguf(merged[-1], scratch)[0]  # over NF4, where it was trained there
    else:
        source = None
    if source is None:
        return None
    read, given = open_gguf(source), open_gguf(b.folder).tensors
    expected = expected_types(b, source)
    types = {}
    for name in read.tensors:
        kind = given[name].type if name in given else "F32"
        wanted = expected(name) if expected else kind
        types[name] = wanted if bits_of(kind) < 0.9 * bits_of(wanted) else kind
    target = scratch / "own-copy.gguf"
    try:
        write_gguf(read, target, b.scheme, types)
    except InputError:  # a type that ggml writes only with an importance matrix
        return None
    return target
