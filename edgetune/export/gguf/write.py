"""GGUF files: names, tensors and metadata from llama.cpp's converter, bytes from ggml.

Every file is the model's F32 file with its tensors quantized. That file need not exist: the
converter's tensors are read one at a time as they are written, so a model larger than the memory
can be exported.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.utility import LocalTensor

from edgetune.errors import EdgetuneError, InputError, Unsupported, raise_machine_fault
from edgetune.export.gguf import vocab as gguf_vocab
from edgetune.export.gguf.converter import (
    GgufHeader,
    find_pre_tokenizer,
    load_conversion,
    make_converter,
    quiet_converter,
)
from edgetune.export.gguf.read_ahead import ReadAhead
from edgetune.export.gguf.rope import unnest_rope
from edgetune.export.gguf.writer import GgufWriter
from edgetune.models.checkpoint_tensors import read_float32
from edgetune.quantize.formats.ggml import file_type, quantize_tensor
from edgetune.runtimes.gguf_header import GgufFile, decode_tensor, open_gguf

_OWN_KEYS = ("general.architecture",)  # what the writer writes by itself


def check_gguf_support(folder: Path) -> list[str]:
    """Return why the model in ``folder`` cannot be a GGUF file; empty when it can.

    Reads the configuration and the tokenizer only, and those once as long as they stay as they
    are: a vocabulary of 150,000 tokens takes five seconds.
    """
    stats = [(one.name, one.stat()) for one in sorted(folder.iterdir())]
    stamp = tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)
    return list(_find_faults(folder, stamp))


@lru_cache(maxsize=8)
def _find_faults(folder: Path, _: object) -> list[str]:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architecture = (config.get("architectures") or ["?"])[0]
    conversion = load_conversion()
    if architecture not in conversion.TEXT_MODEL_MAP:
        return [f"llama.cpp's converter does not know the architecture {architecture}"]
    faults = gguf_vocab.find_vocabulary_faults(folder)
    tokenizer = gguf_vocab.read_tokenizer(folder)
    named = gguf_vocab.name_pre_tokenizer(tokenizer) or not gguf_vocab.is_byte_level(tokenizer)
    if not faults and not named and find_pre_tokenizer(folder) is None:
        faults.append(
            "llama.cpp has no pre-tokenizer that splits text as tokenizer.json does: "
            + json.dumps(tokenizer["pre_tokenizer"], ensure_ascii=False)
        )
    rotates = config.get("no_rope_layers")  # 0 for the layers without
    if rotates and any(bool(one) != bool((at + 1) % 4) for at, one in enumerate(rotates)):
        faults.append(
            f"no_rope_layers is {rotates}; llama.cpp leaves rotary positions out of every fourth "
            "layer alone"
        )
    return faults


@dataclass(frozen=True)
class ModelFile(GgufFile):
    """The F32 GGUF file that a model folder would be; tensors are converted as they are read.

    Attributes:
        folder: the model.
        lazy: tensor name to the converter's lazy array.
    """

    folder: Path
    lazy: Mapping[str, Any]

    def read(self, name: str) -> np.ndarray:
        """Return a tensor in float32, in the shape and order of rows that a file has."""
        with _converting(self.folder):
            values = _evaluate(self.lazy[name])
        raw = np.ascontiguousarray(values)
        return decode_tensor(raw.reshape(-1).view(np.uint8), self.tensors[name])


def open_model(folder: Path, frame: Path, header: GgufHeader) -> ModelFile:
    """Return the model in ``folder`` as the F32 file that :func:`convert_gguf` would write.

    Args:
        folder: a Hugging Face folder.
        frame: file that gets the header, and holes in place of the tensors: all that llama.cpp
            needs to choose types. It takes the disk of the header alone.
        header: what the file says of itself.

    Raises:
        Unsupported: the converter refuses the model.
    """
    with _converting(folder):
        writer = _start_file(folder, frame, header)
        writer.write_ti_data_to_file()
        writer.close()
        (tensors,) = writer.tensors
        size = sum(writer.ggml_pad(each.nbytes, writer.data_alignment) for each in tensors.values())
        os.truncate(frame, writer.ggml_pad(frame.stat().st_size, writer.data_alignment) + size)
    file = open_gguf(frame)
    lazy = {name: each.tensor for name, each in tensors.items()}
    return ModelFile(file.path, file.keys, file.types, file.tensors, folder, lazy)


def convert_gguf(folder: Path, target: Path, header: GgufHeader) -> None:
    """Write the model in ``folder`` as an F32 GGUF file.

    Raises:
        Unsupported: the converter refuses the model.
    """
    with _converting(folder):
        writer = _start_file(folder, target, header)
        writer.write_tensors_to_file(progress=False)
        writer.close()


def _start_file(folder: Path, target: Path, header: GgufHeader) -> gguf.GGUFWriter:
    """Run the converter up to its lazy tensors and write the metadata."""
    faults = check_gguf_support(folder)
    if faults:
        raise Unsupported("; ".join(faults), where=str(folder))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = make_converter(config["architectures"][0], header)
    name = gguf_vocab.fit_name(header.name, gguf_vocab.read_tokenizer(folder))
    converter = kind(folder, gguf.LlamaFileType.ALL_F32, target, model_name=name)
    attention_factor = unnest_rope(converter.hparams)
    if "n_positions" in converter.hparams:  # GPT-2: transformers 5 writes no n_ctx
        converter.hparams.setdefault("n_ctx", converter.hparams["n_positions"])
    converter.prepare_tensors()
    converter.prepare_metadata(vocab_only=False)
    gguf_vocab.forget_tokenizer()
    writer: gguf.GGUFWriter = converter.gguf_writer
    if attention_factor is not None:
        writer.add_rope_scaling_attn_factors(attention_factor)
    writer.write_header_to_file(path=target)
    writer.write_kv_data_to_file()
    return writer


@contextmanager
def _converting(folder: Path) -> Iterator[None]:
    """Keep the converter quiet, and raise what it raises as :class:`Unsupported`."""
    with quiet_converter() as complaints:
        try:
            yield
        except EdgetuneError:
            raise
        except Exception as error:  # the converter raises every kind, bare ones among them
            raise_machine_fault(error, str(folder))
            said = " ".join([f"{type(error).__name__}: {error}", *complaints])
            raise Unsupported(
                f"llama.cpp's converter fails: {said}",
                where=str(folder),
                hint="set LLAMA_CPP_ROOT to a newer llama.cpp checkout",
            ) from error


def _evaluate(lazy: Any) -> Any:
    """Return the values of a lazy array; ``LazyBase.to_eager`` would keep them, and each step's."""
    if not isinstance(lazy, gguf.LazyBase) or lazy._data is not None:
        return lazy._data if isinstance(lazy, gguf.LazyBase) else lazy
    if _widens(lazy):
        (stored,) = lazy._args[0]._args
        return read_float32(stored)
    arguments = gguf.LazyBase._recurse_apply(lazy._args, _evaluate)
    assert lazy._func is not None
    return lazy._func(*arguments, **lazy._kwargs)


def _widens(lazy: Any) -> bool:
    """Whether this is a bfloat16 tensor on disk turned to float32.

    That is read some values at a time: whole, both would be in memory together.
    """
    given, *to = lazy._args if isinstance(lazy._args, tuple) else (None,)
    if not isinstance(given, gguf.LazyBase) or [str(one) for one in to] != ["torch.float32"]:
        return False
    stored = given._args[0] if len(given._args) == 1 else None
    return given._data is None and isinstance(stored, LocalTensor) and stored.dtype == "BF16"


def write_gguf(
    source: GgufFile,
    target: Path,
    scheme: str,
    types: Mapping[str, str],
    importance: Mapping[str, np.ndarray] | None = None,
    ready: Mapping[str, np.ndarray] | None = None,
    keys: Mapping[str, int | str] | None = None,
) -> None:
    """Write an F32 file again with its tensors in the plan's ``types``, one tensor at a time.

    Args:
        source: an F32 file, or a model that could be one.
        target: the new file.
        scheme: its name in the plan; llama.cpp's own schemes have a number in the metadata.
        types: tensor name to ggml type.
        importance: tensor name to the weight of each column's rounding error, float32.
        ready: tensors that are bytes of their type already and are written as they are.
        keys: further metadata, numbers as uint32.

    Raises:
        InputError: a tensor is not in the plan, or holds NaN.
    """
    weights, made = importance or {}, ready or {}
    with quiet_converter():
        writer = _start_quantized(source, target, scheme, types, made, keys or {})
        with ReadAhead(source, [name for name in source.tensors if name not in made]) as ahead:
            for name in source.tensors:
                writer.write_tensor_data(
                    made[name]
                    if name in made
                    else quantize_tensor(ahead.read(name), types[name], weights.get(name), name)
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
        writer = _start_quantized(source, scratch, scheme, types, {}, keys or {})
        writer.close()
    size = int(writer.ggml_pad(scratch.stat().st_size, writer.data_alignment))
    scratch.unlink()
    return size


def _start_quantized(
    source: GgufFile, target: Path, scheme: str, types: Mapping[str, str],
    made: Mapping[str, np.ndarray], keys: Mapping[str, int | str],
) -> GgufWriter:  # fmt: skip
    """Write all of a file that stands before its tensors."""
    writer = GgufWriter(target, source.keys["general.architecture"])
    number = file_type(scheme)
    for key, value in source.keys.items():
        if key not in _OWN_KEYS and (number is not None or key != "general.file_type"):
            kind, inner = source.types[key]
            sub_type = None if inner is None else gguf.GGUFValueType(inner)
            writer.add_key_value(key, value, gguf.GGUFValueType(kind), sub_type=sub_type)
    if number is not None:
        writer.add_file_type(int(number))
    for key, said in keys.items():
        add = writer.add_string if isinstance(said, str) else writer.add_uint32
        add(key, said)
    for name, tensor in source.tensors.items():
        if name not in types:
            raise InputError("the plan has no type for this tensor", where=name)
        type_ = gguf.GGMLQuantizationType[types[name]]
        shape = gguf.quant_shape_to_byte_shape(tensor.shape, type_)
        if name in made and made[name].shape != shape:
            raise InputError(
                f"its trained bytes have shape {made[name].shape}, not {shape}", where=name
            )
        writer.add_tensor_info(
            name, shape, np.dtype(np.uint8), int(np.prod(shape)), raw_dtype=type_
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    return writer


def find_architecture(folder: Path) -> tuple[str, int, bool] | None:
    """Return llama.cpp's name of the architecture, the blocks, and whether the head is tied.

    ``None`` where the converter does not know the model.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architecture = (config.get("architectures") or ["?"])[0]
    conversion = load_conversion()
    if architecture not in conversion.TEXT_MODEL_MAP:
        return None
    name = gguf.MODEL_ARCH_NAMES[conversion.get_model_class(architecture).model_arch]
    blocks = int(config.get("num_hidden_layers") or config["n_layer"])  # GPT-2's own name
    return name, blocks, bool(config.get("tie_word_embeddings"))
