"""Quantized GGUF files: a model's F32 file with its tensors in other types, bytes from ggml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np

from edgetune.errors import InputError
from edgetune.export.gguf.converter import quiet_converter
from edgetune.export.gguf.read_ahead import ReadAhead
from edgetune.export.gguf.writer import GgufWriter
from edgetune.quantize.formats.ggml import quantize_tensor
from edgetune.quantize.formats.llama_quantize import file_type
from edgetune.runtimes.gguf_header import GgufFile

_OWN_KEYS = ("general.architecture",)  # what the writer writes by itself


@dataclass(frozen=True)
class Quantization:
    """How the tensors of a file are quantized.

    Attributes:
        scheme: its name in the plan; llama.cpp's own schemes have a number in the metadata.
        types: tensor name to ggml type.
        importance: tensor name to the weight of each column's rounding error, float32.
        ready: tensors that are bytes of their type already and are written as they are.
        keys: further metadata, numbers as uint32.
    """

    scheme: str
    types: Mapping[str, str]
    importance: Mapping[str, np.ndarray] = field(default_factory=dict)
    ready: Mapping[str, np.ndarray] = field(default_factory=dict)
    keys: Mapping[str, int | str] = field(default_factory=dict)


def write_gguf(source: GgufFile, target: Path, quantization: Quantization) -> None:
    """Write an F32 file again with its tensors quantized, one tensor at a time.

    Args:
        source: an F32 file, or a model that could be one.
        target: the new file.
        quantization: the type of every tensor, and its bytes where they are made already.

    Raises:
        InputError: a tensor has no type, or holds NaN.
    """
    types, ready = quantization.types, quantization.ready
    importance = quantization.importance
    with quiet_converter():
        writer = _start_quantized(source, target, quantization)
        with ReadAhead(source, [name for name in source.tensors if name not in ready]) as ahead:
            for name in source.tensors:
                writer.write_tensor_data(
                    ready[name]
                    if name in ready
                    else quantize_tensor(ahead.read(name), types[name], importance.get(name), name)
                )
        writer.close()


def measure_header(
    source: GgufFile, scratch: Path, scheme: str, keys: Mapping[str, int | str] | None = None
) -> int:
    """Return the bytes before the first tensor of what :func:`write_gguf` writes, padding included.

    They do not depend on the tensors' types.

    Args:
        source: an F32 file, or a model that could be one.
        scratch: file that is written and removed again.
        scheme: name in the plan.
        keys: further metadata.
    """
    with quiet_converter():
        types = {name: tensor.type for name, tensor in source.tensors.items()}
        quantization = Quantization(scheme, types, keys=keys or {})
        writer = _start_quantized(source, scratch, quantization)
        writer.close()
    size = int(writer.ggml_pad(scratch.stat().st_size, writer.data_alignment))
    scratch.unlink()
    return size


def _start_quantized(source: GgufFile, target: Path, quantization: Quantization) -> GgufWriter:
    """Write all of a file that stands before its tensors."""
    writer = GgufWriter(target, source.keys["general.architecture"])
    number = file_type(quantization.scheme)
    types, ready = quantization.types, quantization.ready
    for key, value in source.keys.items():
        if key not in _OWN_KEYS and (number is not None or key != "general.file_type"):
            kind, inner = source.types[key]
            sub_type = None if inner is None else gguf.GGUFValueType(inner)
            writer.add_key_value(key, value, gguf.GGUFValueType(kind), sub_type=sub_type)
    if number is not None:
        writer.add_file_type(int(number))
    for key, setting in quantization.keys.items():
        if isinstance(setting, str):
            writer.add_string(key, setting)
        else:
            writer.add_uint32(key, setting)
    for name, tensor in source.tensors.items():
        if name not in types:
            raise InputError("the plan has no type for this tensor", where=name)
        type_ = gguf.GGMLQuantizationType[types[name]]
        shape = gguf.quant_shape_to_byte_shape(tensor.shape, type_)
        if name in ready and ready[name].shape != shape:
            raise InputError(
                f"its trained bytes have shape {ready[name].shape}, not {shape}", where=name
            )
        writer.add_tensor_info(
            name, shape, np.dtype(np.uint8), int(np.prod(shape)), raw_dtype=type_
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    return writer
