"""Load tokenizers and models; with :mod:`.adapters` the door to PEFT."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from edgetune.errors import InputError, Unsupported
from edgetune.models.checkpoint import Checkpoint, check_model_folder
from edgetune.models.generation import mend_generation_config
from edgetune.models.gguf_base import load_gguf_base
from edgetune.models.hardware import return_freed_memory
from edgetune.models.lora import Adapter
from edgetune.models.lora_config import refuse_start_over_nf4
from edgetune.models.nf4 import (
    disable_avx512_repacking,
    fits_unpacked,
    round_to_nf4,
    unpack_nf4,
    unpack_uneven_layers,
)
from edgetune.models.ref import ModelRef
from edgetune.models.skeleton import name_in_model

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()
# bitsandbytes says that the package `kernels` is missing; nothing here needs it.
warnings.filterwarnings("ignore", message=".*kernels.*")
# PEFT warns that a tied layer with an adapter merges wrong; here it only runs, and merge unties it.
warnings.filterwarnings("ignore", message=".*tie_word_embeddings=True.*")
#: transformers applies an adapter that lies beside the weights; in this subfolder it finds none.
_NO_ADAPTER = {"subfolder": "no adapter"}


def load_model(ref: ModelRef, dtype: str = "float32", device: str = "cpu") -> PreTrainedModel:
    """Load base and adapter in eval mode.

    Weights that were trained on in 4 bits have the values that the training saw, whatever the
    dtype: rounded to NF4 from the dtype they were loaded in then. (A model on a GPU, or too large
    to be unpacked, computes in that dtype too.)

    Args:
        ref: what to load.
        dtype: of weights (of activations, where the weights are NF4).
        device: ``cpu`` or ``cuda``.

    Raises:
        InputError: a folder that is not whole, or an adapter of another base.
    """
    model: Any = None
    if ref.nf4 and ref.nf4_dtype != dtype:
        if device == "cpu" and _fits_unpacked(ref.base):
            model = load_base(ref.base, False, dtype, device)
            round_to_nf4(model, getattr(torch, ref.nf4_dtype))
        else:
            dtype = ref.nf4_dtype
    if model is None:
        model = load_weights(ref, dtype, device)
    if ref.adapter is not None:
        model = put_adapter_on(model, ref)
    model.eval()
    return model  # type: ignore[no-any-return]


def load_weights(ref: ModelRef, dtype: str, device: str) -> PreTrainedModel:
    """Load the base of a model without its adapter: as it is, in NF4, or from a GGUF file."""
    if ref.gguf is not None:
        return load_gguf_base(ref.base, ref.gguf, dtype, device)  # type: ignore[no-any-return]
    return load_base(ref.base, ref.nf4, dtype, device)


def load_base(folder: Path, nf4: bool, dtype: str, device: str) -> PreTrainedModel:
    """Load a model folder; with ``nf4`` its linear layers in 4 bits with double quantization.

    On a CPU with enough memory the 4-bit values are unpacked once, instead of at every use.
    """
    check_model_folder(folder)
    torch_dtype = getattr(torch, dtype)
    config = nf4_config(torch_dtype) if nf4 else None
    try:
        answer: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch_dtype,
            quantization_config=config,
            device_map={"": _place(device)} if nf4 else None,
            trust_remote_code=False,
            use_safetensors=True,
            adapter_kwargs=_NO_ADAPTER,
            output_loading_info=True,
        )
    except (ValueError, RuntimeError, KeyError, OSError) as error:
        raise InputError(f"cannot load the model: {error}", where=str(folder)) from error
    model, loaded = answer
    absent = sorted(loaded["missing_keys"])
    if absent:  # transformers would leave random values in their place
        raise InputError(
            f"{len(absent)} tensors of the model are in none of its files, '{absent[0]}' first",
            where=str(folder),
            hint="copy the model again, or use the config.json that belongs to these weights",
        )
    mend_generation_config(model)
    if nf4 and device == "cpu" and fits_unpacked(model):
        unpack_nf4(model)
        _release_checkpoint(model)
    elif nf4:
        disable_avx512_repacking(model)
        if device == "cpu":
            unpack_uneven_layers(model)
            _release_checkpoint(model)
    else:
        model = model.to(device)
    return model  # type: ignore[no-any-return]


def _release_checkpoint(model: Any) -> None:
    """Copy the weights that are still views of the mapped checkpoint, so that it is unmapped.

    Embedding and norms keep their dtype and with it the file: all of it was read to be put into
    4 bits and stays resident. For 494 M parameters this is 1.60 GB in place of 2.23.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return_freed_memory()


def nf4_config(dtype: torch.dtype) -> BitsAndBytesConfig:
    """Return what transformers needs to know of NF4 weights that are computed with in ``dtype``."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _place(device: str) -> str:
    """Return the device by its number: transformers' trainer takes ``cuda`` for another one."""
    return "cuda:0" if device == "cuda" else device


def _fits_unpacked(folder: Path) -> bool:
    """Whether the model in a folder has room as float32, asked before its weights are read."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"):
        return fits_unpacked(AutoModelForCausalLM.from_config(config))


def put_adapter_on(
    model: Any, ref: ModelRef, offloaded: bool = False, trainable: bool = False
) -> Any:
    """Return the PEFT model, its vocabulary as large as in the adapter's training.

    Args:
        model: the base.
        ref: names the adapter.
        offloaded: the base's weights are on disk, and the adapter's come into memory all the same.
        trainable: the adapter is going to be trained further.

    Raises:
        InputError: an adapter of another base, or one whose weights are not safetensors.
        Unsupported: one that cannot be what was trained once it is loaded again.
    """
    from peft import PeftModel

    assert ref.adapter is not None
    adapter = Adapter(ref.adapter, ref.base)
    if ref.nf4:
        refuse_start_over_nf4(adapter.config, str(ref.adapter))
    check_adapter(adapter, ref.base, model)
    rows = adapter.rows(f"{adapter.skeleton.embedding}.weight")
    if rows is not None and rows != model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(rows, mean_resizing=False)
    try:
        loaded = PeftModel.from_pretrained(
            model,
            str(ref.adapter),
            is_trainable=trainable,
            low_cpu_mem_usage=offloaded,
            torch_device="cpu" if offloaded else None,
        )
        if offloaded:
            _fill_factors(loaded, ref.adapter)
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        raise InputError(
            f"PEFT cannot load the adapter: {error}", where=str(ref.adapter)
        ) from error
    wrapped = {name for name, one in loaded.get_base_model().named_modules() if _is_lora(one)}
    left_out = sorted(adapter.modules - wrapped)
    if left_out:  # a tied head, under ensure_weight_tying, of a family whose names PEFT misses
        raise Unsupported(
            f"PEFT leaves the adapter of '{left_out[0]}' out when it loads it again, so what was "
            "trained cannot be computed",
            where=str(ref.adapter),
            hint="name the layer in target_modules of adapter_config.json",
        )
    keep_factors_float32(loaded)
    return loaded


def keep_factors_float32(loaded: Any) -> None:
    """Hold an adapter's factors as they were trained: in float32, rounded by nothing."""
    for name, parameter in loaded.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()


def _fill_factors(loaded: Any, folder: Path) -> None:
    """Load a plain adapter's factors once more: PEFT moves them to where the base's weights are."""
    from peft.utils import load_peft_weights

    factors = {
        re.sub(r"(\.lora_[AB])\.weight$", r"\1.default.weight", name): value
        for name, value in load_peft_weights(str(folder), device="cpu").items()
    }
    unexpected = loaded.load_state_dict(factors, strict=False, assign=True).unexpected_keys
    if unexpected:
        raise KeyError(unexpected[0])


def _is_lora(module: Any) -> bool:
    return hasattr(module, "lora_A") and hasattr(module, "base_layer")


def check_adapter(adapter: Adapter, base: Path, model: Any) -> None:
    """Refuse an adapter whose tensors do not fit ``model``, naming the first that does not."""
    checkpoint = Checkpoint(base)
    names = name_in_model(checkpoint, adapter.skeleton)
    adapter.check({names[name]: header.shape for name, header in checkpoint.headers.items()})
    modules = dict(model.named_modules())
    absent = sorted(adapter.modules - set(modules))
    if absent:
        raise InputError(
            f"the adapter tunes '{absent[0]}', which this base does not have",
            where=str(adapter.folder),
            hint="use the base the adapter was trained on",
        )
