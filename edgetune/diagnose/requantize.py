"""Requantize the reference in the candidate's types: the KL that a right file would have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgetune.compare.loaded import LoadedModel
from edgetune.compare.logits import TokenizedText, compare_logits
from edgetune.compare.model_spec import ModelSpec
from edgetune.diagnose.reconvert import convert_to_gguf, write_reference_folders
from edgetune.diagnose.tensor_diff import bits_of
from edgetune.diagnose.weight_faults import expected_types
from edgetune.errors import InputError, Unsupported
from edgetune.models.hardware import count_threads
from edgetune.models.ref import ModelRef
from edgetune.runtimes import Runtime
from edgetune.runtimes.gguf_header import open_gguf
from edgetune.runtimes.isolated import Isolated


def measure_requantized(
    reference: ModelSpec, candidate: ModelSpec, rows: Sequence[TokenizedText], scratch: Path
) -> float | None:
    """Return the KL in nats of ``reference`` to its own copy in the types of ``candidate``.

    ``None`` where no copy can be made. A GGUF file is quantized again without an importance matrix;
    a 16-bit folder is rounded.
    """
    try:
        runtime = _open_copy(reference, candidate, scratch)
    except (Unsupported, KeyError):
        return None
    if runtime is None:
        return None
    try:
        first = reference.open()
        try:
            return compare_logits(
                LoadedModel(reference, first), LoadedModel(candidate, runtime), rows
            ).kl_mean
        finally:
            first.close()
    finally:
        runtime.close()


def _open_copy(reference: ModelSpec, candidate: ModelSpec, scratch: Path) -> Runtime | None:
    if (
        candidate.format == "hf"
        and isinstance(reference.target, ModelRef)
        and candidate.scheme in ("bfloat16", "float16")
    ):
        from edgetune.runtimes.pytorch import open_rounded

        return open_rounded(reference.target, candidate.scheme, count_threads())
    if candidate.format == "gguf":
        path = _requantize(reference, candidate, scratch)
        return Isolated(path, count_threads()) if path else None
    return None


def _requantize(reference: ModelSpec, candidate: ModelSpec, scratch: Path) -> Path | None:
    """Write ``reference`` as GGUF in the types of ``candidate``, or those of its scheme."""
    from edgetune.export.gguf.write import Quantization, write_gguf

    if reference.format == "gguf":
        source = reference.folder if reference.scheme == "F32" else None
    elif reference.format == "hf":
        _, merged = write_reference_folders(reference, scratch)
        source = convert_to_gguf(merged[-1], scratch)[0]  # over NF4, where it was trained there
    else:
        source = None
    if source is None:
        return None
    read, given = open_gguf(source), open_gguf(candidate.folder).tensors
    expected = expected_types(candidate, source)
    types = {}
    for name in read.tensors:
        kind = given[name].type if name in given else "F32"
        wanted = expected(name) if expected else kind
        types[name] = wanted if bits_of(kind) < 0.9 * bits_of(wanted) else kind
    target = scratch / "own-copy.gguf"
    try:
        write_gguf(read, target, Quantization(candidate.scheme, types))
    except InputError:  # a type that ggml writes only with an importance matrix
        return None
    return target
