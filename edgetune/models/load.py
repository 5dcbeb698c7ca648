"""Load tokenizers and models; with :mod:`.adapters` the door to PEFT."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from edgetune.errors import InputError, reading
from edgetune.models.chat_template import fold_templates
from edgetune.models.checkpoint import check_model_folder
from edgetune.models.generation import mend_generation_config
from edgetune.models.nf4 import (
    fits_unpacked,
    keep_narrow_layers_portable,
    round_to_nf4,
    unpack_nf4,
    unpack_uneven_layers,
)
from edgetune.models.ref import ModelRef

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()
# bitsandbytes says that the package `kernels` is missing; nothing here needs it.
warnings.filterwarnings("ignore", message=".*kernels.*")
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
#: transformers applies an adapter that lies beside the weights; in this subfolder it finds none.
_NO_ADAPTER = {"subfolder": "no adapter"}


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model folder, without running code from it.

    Raises:
        InputError: the files cannot be read.
    """
    with reading("cannot load the tokenizer", str(folder)):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    tokenizer.chat_template = fold_templates(tokenizer.chat_template, str(folder))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


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
        model = load_base(ref.base, ref.nf4, dtype, device)
    if ref.adapter is not None:
        from peft import PeftModel

        check_adapter(ref.adapter, model)
        model = PeftModel.from_pretrained(model, str(ref.adapter))
        # Adapters are trained in float32 and must not be rounded on the way back in.
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.float()
    model.eval()
    return model  # type: ignore[no-any-return]


def load_base(folder: Path, nf4: bool, dtype: str, device: str) -> PreTrainedModel:
    """Load a model folder; with ``nf4`` its linear layers in 4 bits with double quantization.

    On a CPU with room the 4-bit values are unpacked once, in place of at every use.
    """
    check_model_folder(folder)
    torch_dtype = getattr(torch, dtype)
    config = None
    if nf4:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch_dtype,
        )
    try:
        model, loaded = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch_dtype,
            quantization_config=config,
            device_map={"": device} if nf4 else None,
            trust_remote_code=False,
            use_safetensors=True,
            adapter_kwargs=_NO_ADAPTER,
            output_loading_info=True,
        )
    except (ValueError, RuntimeError, KeyError, OSError) as error:
        raise InputError(f"cannot load the model: {error}", where=str(folder)) from error
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
    elif nf4:
        keep_narrow_layers_portable(model)
        if device == "cpu":
            unpack_uneven_layers(model)
    else:
        model = model.to(device)
    return model  # type: ignore[no-any-return]


def _fits_unpacked(folder: Path) -> bool:
    """Whether the model in a folder has room as float32, asked before its weights are read."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"):
        return fits_unpacked(AutoModelForCausalLM.from_config(config))


def check_adapter(adapter: Path, model: Any) -> None:
    """Refuse an adapter whose tensors do not fit ``model``, naming the first that does not."""
    from safetensors import safe_open

    from edgetune.models.source import check_safetensors

    weights = adapter / "adapter_model.safetensors"
    if not weights.is_file():
        raise InputError("no adapter_model.safetensors in this adapter", where=str(adapter))
    check_safetensors(weights)
    modules = dict(model.named_modules())
    with safe_open(weights, "pt") as file:
        for name in file.keys():  # noqa: SIM118 - safe_open is no dict
            target, _, rest = name.removeprefix("base_model.model.").partition(".lora_")
            module = modules.get(target)
            if rest and module is None:
                raise InputError(
                    f"the adapter tunes '{target}', which this base does not have",
                    where=str(adapter),
                    hint="use the base the adapter was trained on",
                )
            size = getattr(module, "in_features" if rest.startswith("A") else "out_features", None)
            shape = file.get_slice(name).get_shape()
            given = shape[1] if rest.startswith("A") else shape[0]
            if rest and size is not None and given != size:
                raise InputError(
                    f"'{name}' has {given} channels where the base has {size}",
                    where=str(adapter),
                    hint="use the base the adapter was trained on",
                )
