"""A model whose weights are those of a GGUF file: configuration and tokenizer are a folder's.

Embedding, head and norms are plain; linear layers keep the file's bytes (:mod:`.gguf_linear`), or
are unpacked once where the memory is large enough. Every value is llama.cpp's in float32, rounded
to the dtype that is computed in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import init_empty_weights
from transformers import AutoModelForCausalLM, GenerationConfig

from edgetune.errors import Unsupported
from edgetune.models.generation import NAME, mend_generation_config
from edgetune.models.gguf_linear import GgufLinear
from edgetune.models.gguf_match import GgufBase, Match, match_gguf
from edgetune.models.nf4 import fits_unpacked
from edgetune.ops.dequantize import BLOCKS
from edgetune.runtimes.ggml import dequantize_tensor


def load_gguf_base(
    folder: Path, path: Path, dtype: str, device: str, packed: bool | None = None
) -> Any:
    """Load the model of ``folder`` with the weights of a GGUF file, in eval mode.

    Args:
        folder: with configuration and tokenizer.
        path: the file.
        dtype: of activations, and of what is not packed.
        device: ``cpu`` or ``cuda``.
        packed: whether linear layers keep the file's bytes; absent: on a GPU, and where the values
            would take more than a quarter of the memory.

    Raises:
        InputError: a file of another model.
        Unsupported: another family, or a type that cannot be read on this device.
    """
    base = match_gguf(folder, path)
    check_types(base, device)
    number = getattr(torch, dtype)
    with init_empty_weights(include_buffers=False):
        model: Any = AutoModelForCausalLM.from_config(base.config, dtype=number)
    if packed is None:
        packed = device == "cuda" or not fits_unpacked(model)
    head = model.get_output_embeddings()
    linear = {
        f"{name}.weight": name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    for match in base.matches:
        if packed and match.parameter in linear and match.tensor.type in BLOCKS:
            _put_packed(model, linear[match.parameter], match, path, number)
        else:
            _put_plain(model, match, path, number)
    if base.tied:
        model.tie_weights()
    if (folder / NAME).is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    mend_generation_config(model)
    return model.to(device).eval()


def check_types(base: GgufBase, device: str) -> None:
    """Refuse a file with a type that cannot be read where the model is to run.

    Raises:
        Unsupported: names the type and the tensor.
    """
    if device != "cuda":
        return  # ggml reads them all
    for match in base.matches:
        if match.tensor.type not in BLOCKS:
            raise Unsupported(
                f"{match.name} is {match.tensor.type}, which cannot be read on a GPU",
                where=str(base.path),
                hint=f"set model.device: cpu, or use a file of {', '.join(BLOCKS)}",
            )


def _put_packed(model: Any, name: str, match: Match, path: Path, dtype: torch.dtype) -> None:
    """Put a packed layer in place of a linear one; its bias comes with a match of its own."""
    old = model.get_submodule(name)
    layer = GgufLinear(torch.from_numpy(match.read(path)), match.tensor.type, dtype, old.bias)
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


def _put_plain(model: Any, match: Match, path: Path, dtype: torch.dtype) -> None:
    """Give a parameter the file's values."""
    values = dequantize_tensor(match.read(path), match.tensor.type)
    if match.shift:
        values = values - np.float32(match.shift)
    module, _, kind = match.parameter.rpartition(".")
    parameter = torch.nn.Parameter(torch.from_numpy(values).to(dtype))
    setattr(model.get_submodule(module), kind, parameter)
