"""The F32 GGUF file of a model: names, tensors and metadata from llama.cpp's converter.

The file need not exist: the converter's tensors are read one at a time as they are written, so a
model larger than the memory can be exported.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.utility import LocalTensor

from edgetune.errors import EdgetuneError, Unsupported, raise_machine_fault
from edgetune.export.gguf import vocab as gguf_vocab
from edgetune.export.gguf.converter import GgufHeader, make_converter, quiet_converter
from edgetune.export.gguf.rope import unnest_rope
from edgetune.export.gguf.support import check_gguf_support
from edgetune.models.checkpoint_tensors import read_float32
from edgetune.runtimes.gguf_header import GgufFile, decode_tensor, open_gguf


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
            reason = " ".join([f"{type(error).__name__}: {error}", *complaints])
            raise Unsupported(
                f"llama.cpp's converter fails: {reason}",
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
