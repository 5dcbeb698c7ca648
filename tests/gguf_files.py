"""GGUF files of tiny models, in the types that a test asks for."""

from __future__ import annotations

from pathlib import Path

from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf
from edgetune.export.gguf.write import Quantization, write_gguf
from edgetune.quantize.formats.ggml import fits_rows
from edgetune.runtimes.gguf_header import open_gguf


def make_gguf(folder: Path, target: Path, *types: str) -> Path:
    """Write the model in ``folder`` with its matrices in these types in turn; none: F32.

    Rows that are no whole number of a type's blocks are Q8_0.
    """
    plain = target.with_suffix(".F32.gguf")
    convert_gguf(folder, plain, GgufHeader("tiny"))
    if not types:
        return plain.rename(target)
    source = open_gguf(plain)
    chosen, turn = {}, 0
    for name, tensor in source.tensors.items():
        chosen[name] = "F32"
        if len(tensor.shape) > 1:
            wanted = types[turn % len(types)]
            chosen[name] = wanted if fits_rows(tensor.shape[-1], wanted) else "Q8_0"
            turn += 1
    write_gguf(source, target, Quantization("mixed", chosen))
    plain.unlink()
    return target
