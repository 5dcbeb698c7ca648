"""A LoRA adapter alone as a GGUF file, which llama.cpp loads on top of the base's own file.

Layout: llama.cpp's docs on LoRA and ``llama_adapter_lora_init`` (src/llama-adapter.cpp): the
keys ``general.type`` adapter, ``adapter.type`` lora, ``adapter.lora.alpha``, and for each tuned
tensor two more, ``.lora_a`` [r, in] and ``.lora_b`` [out, r]; the update is alpha / r · B A.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import torch

from edgetune.errors import Unsupported, raise_machine_fault
from edgetune.export.gguf.converter import GgufHeader, make_converter, quiet_converter
from edgetune.models.lineage import check_lineage, lineage_of
from edgetune.models.lora import Adapter

_SAME = 1e-5  # of the largest entry: what two orders of summing in float32 may differ by


def write_gguf_adapter(
    base: Path, folder: Path, target: Path, name: str, file_hash: str | None = None
) -> int:
    """Write the PEFT adapter in ``folder``, trained over ``base``, and return how many it tunes.

    Names, and the order of rows in which llama.cpp keeps a weight, are its converter's own. With
    ``file_hash``, the SHA-256 of the GGUF file that it belongs to is written beside.

    Raises:
        InputError: an adapter of another base.
        Unsupported: one that low-rank factors of the file's tensors do not describe.
    """
    lineage = lineage_of(base)
    check_lineage(folder, lineage)
    adapter = Adapter(folder, base)
    refuse_more_than_factors(adapter)
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    alpha = float(adapter.config["lora_alpha"])
    with quiet_converter():
        kind = make_converter(config["architectures"][0], GgufHeader(name))
        converter = kind(base, gguf.LlamaFileType.ALL_F32, target, model_name=name)
        writer = gguf.GGUFWriter(target, gguf.MODEL_ARCH_NAMES[converter.model_arch])
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_name(name)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
        writer.add_string("edgetune.base.lineage", lineage)
        if file_hash is not None:
            writer.add_string("edgetune.base.sha256", file_hash)
        for module in sorted(adapter.modules):
            scale, left, right = adapter.factors(module)
            tensor, b, a = _convert(converter, module, left, right)
            b = b * (scale * a.shape[0] / alpha)  # the reader's own scale is alpha / r
            if tensor == "token_embd.weight":  # whose rows llama.cpp picks: A is [V, r], B [D, r]
                a, b = b, a.T
            writer.add_tensor(f"{tensor}.lora_a", a.contiguous().numpy())
            writer.add_tensor(f"{tensor}.lora_b", b.contiguous().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return len(adapter.modules)


def refuse_more_than_factors(adapter: Adapter) -> None:
    """Refuse an adapter that is not low-rank updates alone.

    Raises:
        Unsupported: it names what else there is.
    """
    whole = sorted(adapter.touched - {f"{module}.weight" for module in adapter.modules})
    if whole:
        raise Unsupported(
            f"'{whole[0]}' was trained whole; a LoRA file holds low-rank updates only",
            where=str(adapter.folder),
        )
    ends = {adapter.skeleton.embedding, adapter.skeleton.head}
    both = sorted(ends & adapter.modules) if adapter.skeleton.tied else []
    if both:
        raise Unsupported(
            f"'{both[0]}' is one tensor with the other end of the model, where a LoRA file of it "
            "would change both",
            where=str(adapter.folder),
        )
    if adapter.config.get("use_dora"):
        raise Unsupported(
            "DoRA scales each row of the sum, which a LoRA file cannot say",
            where=str(adapter.folder),
        )


def _convert(
    converter: Any, module: str, left: torch.Tensor, right: torch.Tensor
) -> tuple[str, torch.Tensor, torch.Tensor]:
    """Return the tensor's name in the file, and B [out, r] and A [r, in] of its update there.

    The converter may permute a weight's rows (Llama's queries and keys) or transpose it (GPT-2). It
    is given the whole update, and the factors are those whose product is what came out.

    Raises:
        Unsupported: the converter does something else with this weight.
    """
    name = f"{module}.weight"
    block = next((int(part) for part in name.split(".") if part.isdecimal()), None)

    def modify(weight: torch.Tensor) -> tuple[str, torch.Tensor]:
        ((found, changed),) = converter.modify_tensors(weight.contiguous(), name, block)
        return str(found), changed

    try:
        tensor, wanted = modify(left @ right)
        for make in (lambda: (modify(left)[1], right), lambda: (right.T, left.T)):
            factors = _matching(make, wanted)
            if factors is not None:
                return tensor, *factors
        fault = "the converter neither permutes its rows nor transposes it"
    except Exception as error:  # the converter raises every kind
        raise_machine_fault(error, module)
        fault = f"the converter does not map it to one tensor ({error})"
    raise Unsupported(f"the update of '{name}' has no place in a GGUF file: {fault}", where=module)


def _matching(
    make: Callable[[], tuple[torch.Tensor, torch.Tensor]], wanted: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return the factors whose product is ``wanted``, but for the rounding of sums."""
    b, a = make()
    if b.shape[-1] != a.shape[0] or (b.shape[0], a.shape[1]) != tuple(wanted.shape):
        return None
    near = _SAME * float(wanted.abs().max())
    return (b, a) if torch.allclose(b @ a, wanted, rtol=0.0, atol=near) else None
