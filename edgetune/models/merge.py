"""Fold LoRA adapters into 16-bit weights, one tensor at a time.

An adapter trained over NF4 weights learnt to correct them too, so it fits the dequantized base;
users expect the original one. Both are made here; the stage measures which is closer to what was
trained.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from edgetune.errors import InputError, Unsupported
from edgetune.models.checkpoint import INDEX, Checkpoint, copy_description
from edgetune.models.lineage import KEY, check_lineage, fingerprint_adapter, lineage_of
from edgetune.models.nf4 import through_nf4
from edgetune.models.source import check_safetensors, read_json

_PREFIX = "base_model.model."
_UNSUPPORTED = ("alora_invocation_tokens", "trainable_token_indices", "layer_replication")
_NAMES = {
    torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
_EMBEDDINGS = ("embed_tokens", "wte", "lm_head", "embed_out")


class Adapter:
    """A LoRA adapter's tensors and scale (Hu et al. 2021, arXiv 2106.09685, section 4.1).

    rsLoRA's scale is lora_alpha / sqrt(r) (arXiv 2312.03732, section 3); DoRA rescales each row of
    W + scale · B A to a learnt length (arXiv 2402.09353, equation 5).

    Raises:
        InputError: a broken file.
        Unsupported: a variant that these do not describe.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = read_json(folder / "adapter_config.json", "a PEFT adapter has one")
        faulty = [key for key in _UNSUPPORTED if self.config.get(key)]
        if self.config.get("peft_type") != "LORA" or faulty:
            raise Unsupported(
                f"cannot fold this adapter: {', '.join(faulty) or self.config.get('peft_type')}",
                where=str(folder),
                hint="LoRA, rsLoRA and DoRA can be merged",
            )
        self._parts: dict[str, dict[str, torch.Tensor]] = {}
        self._whole: dict[str, torch.Tensor] = {}
        weights = folder / "adapter_model.safetensors"
        check_safetensors(weights)
        with safe_open(weights, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no dict
                self._take(name.removeprefix(_PREFIX), file.get_tensor(name).float())

    def _take(self, name: str, tensor: torch.Tensor) -> None:
        module, found, part = name.rpartition(".lora_")
        part = part.removesuffix(".weight")
        if name.endswith(".base_layer.weight"):
            return  # PEFT stores a tuned embedding's own weights beside the adapter
        if found and part in ("A", "B", "embedding_A", "embedding_B", "magnitude_vector"):
            self._parts.setdefault(module, {})[part] = tensor
        elif not found and name.endswith((".weight", ".bias")):
            self._whole[name] = tensor  # modules_to_save: trained whole
        else:
            raise Unsupported(f"cannot fold the tensor '{name}'", where=str(self.folder))

    @property
    def modules(self) -> set[str]:
        """Names of the layers it tunes, as in the base's state dict."""
        return set(self._parts)

    @property
    def touched(self) -> set[str]:
        """Names of the base's tensors that it changes."""
        return {f"{module}.weight" for module in self._parts} | set(self._whole)

    def factors(self, module: str) -> tuple[float, torch.Tensor, torch.Tensor]:
        """Return scale, L and R: scale · L R is the update, in the layout of the base's weight."""
        parts = self._parts[module]
        embedding = "embedding_A" in parts
        a, b = (
            parts["embedding_A" if embedding else "A"],
            parts["embedding_B" if embedding else "B"],
        )
        scale = self._scale(module, a)
        turned = embedding or self.config.get("fan_in_fan_out")
        return (scale, a.T, b.T) if turned else (scale, b, a)

    def _scale(self, module: str, a: torch.Tensor) -> float:
        rank = a.shape[0]
        alpha = float(self.config.get("alpha_pattern", {}).get(module, self.config["lora_alpha"]))
        return alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)

    def apply(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """Return the tensor ``name`` with this adapter folded in, float32."""
        if name in self._whole:
            return self._whole[name]
        module = name.removesuffix(".weight")
        scale, left, right = self.factors(module)
        folded = torch.addmm(weight, left, right, alpha=scale)  # one new tensor, not three
        length = self._parts[module].get("magnitude_vector")
        if length is None:
            return folded
        across = 0 if self.config.get("fan_in_fan_out") else 1
        norms = torch.linalg.norm(folded, dim=across, keepdim=True)
        return folded * (length.reshape(norms.shape) / norms)


def write_merged(
    base: Path,
    adapters: Sequence[Path],
    out: Path,
    dtype: str,
    nf4_dtype: str | None = None,
) -> list[str]:
    """Write ``base`` with ``adapters`` folded in, in their order, as a Hugging Face folder.

    One tensor is in memory at a time, so a model larger than the memory can be merged.

    Args:
        base: model folder.
        adapters: PEFT folders; none only casts the weights.
        out: new folder; shards keep their names.
        dtype: of the weights on disk.
        nf4_dtype: fold over the NF4-dequantized base of a training in this compute dtype; none
            folds over the original.

    Returns:
        The names of the changed tensors.

    Raises:
        InputError: the adapter is of another base, or is in already.
        Unsupported: a base in 4 bits, or tied embeddings that an adapter changes on one side.
    """
    checkpoint = Checkpoint(base)
    checkpoint.check()
    loras = [Adapter(folder) for folder in adapters]
    lineage = _extend_lineage(base, adapters)
    _check_base(base, loras)
    missing = {name for lora in loras for name in lora.touched}
    out.mkdir(parents=True, exist_ok=True)
    target = getattr(torch, dtype)
    changed: list[str] = []

    def fold(name: str, weight: torch.Tensor) -> torch.Tensor:
        tuned = [lora for lora in loras if name in lora.touched]
        if not tuned:
            return weight.to(target) if weight.is_floating_point() else weight
        missing.discard(name)
        changed.append(name)
        # NF4 held the layers that adapters can sit on; what was trained whole was never in it.
        through = nf4_dtype and name.removesuffix(".weight") in tuned[0].modules
        value = through_nf4(weight, getattr(torch, str(nf4_dtype))) if through else weight.float()
        for lora in tuned:
            value = lora.apply(name, value)
        return value.to(target)

    for shard in checkpoint.files:
        write_shard(shard, out / shard.name, fold, target, {"format": "pt", KEY: lineage})
    if missing:
        first = sorted(missing)[0]
        raise InputError(
            f"the adapter tunes '{first}', which this base does not have",
            where=next(str(lora.folder) for lora in loras if first in lora.touched),
            hint="use the base the adapter was trained on",
        )
    _describe(checkpoint, out, dtype)
    return changed


def _extend_lineage(base: Path, adapters: Sequence[Path]) -> str:
    lineage = lineage_of(base)
    for adapter in adapters:
        check_lineage(adapter, lineage)
        lineage += "+" + fingerprint_adapter(adapter)
    return lineage


def _check_base(base: Path, loras: Sequence[Adapter]) -> None:
    config = read_json(base / "config.json", "a model folder has a config.json")
    if config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "quantized")
        raise Unsupported(
            f"its weights are {method} already: rounding them again would lose what was tuned",
            where=str(base),
            hint="merge into the 16-bit model that it was quantized from",
        )
    if not config.get("tie_word_embeddings"):
        return
    for lora in loras:
        tied = [name for name in sorted(lora.touched) if name.split(".")[-2] in _EMBEDDINGS]
        if tied:
            raise Unsupported(
                f"the adapter changes '{tied[0]}', which this base ties to its other end",
                where=str(lora.folder),
                hint="untie the embeddings before tuning them, or tune the other layers",
            )


def write_shard(
    source: Path,
    target: Path,
    change: Callable[[str, torch.Tensor], torch.Tensor],
    dtype: torch.dtype,
    metadata: dict[str, str],
) -> None:
    """Write a safetensors file again, tensor by tensor.

    Args:
        source: the file.
        target: the new one; renamed into place when it is whole.
        change: name and tensor to the tensor to write, of the same shape.
        dtype: what ``change`` makes of floating-point tensors.
        metadata: of the new file.

    The format: 8 bytes of header length, a JSON header, the tensors without a gap
    (https://github.com/huggingface/safetensors#format).
    """
    at = 0
    entries = sorted(_entries(source, dtype), key=lambda one: (-one[2].itemsize, one[0]))
    table: dict[str, Any] = {"__metadata__": metadata}
    for name, shape, kind in entries:
        size = math.prod(shape) * kind.itemsize
        table[name] = {"dtype": _NAMES[kind], "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    part = target.with_name(target.name + ".part")
    with part.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape, kind in entries:
            # Opened for each tensor: pages that stay mapped would count as memory in use.
            with safe_open(source, "pt") as opened:
                value = change(name, opened.get_tensor(name))
            if list(value.shape) != shape or value.dtype != kind:
                raise AssertionError(f"{name} became {value.dtype} {list(value.shape)}")
            if value.numel():
                file.write(memoryview(value.contiguous().view(torch.uint8).numpy().reshape(-1)))
    part.replace(target)


def _entries(source: Path, dtype: torch.dtype) -> Iterator[tuple[str, list[int], torch.dtype]]:
    kinds = {name: kind for kind, name in _NAMES.items()}
    with safe_open(source, "pt") as file:
        for name in file.keys():  # noqa: SIM118 - safe_open is no dict
            part = file.get_slice(name)
            kind = kinds.get(str(part.get_dtype()))
            if kind is None:
                raise Unsupported(
                    f"'{name}' is stored as {part.get_dtype()}, which cannot be merged",
                    where=str(source),
                    hint="merge into the 16-bit model",
                )
            yield name, list(part.get_shape()), dtype if kind.is_floating_point else kind


def name_stop_ids(folder: Path, stop_ids: Sequence[int]) -> None:
    """Write into ``generation_config.json`` that generation ends where training's answers did.

    The base's own EOS may be another token; a client that reads only this file would never stop.
    """
    path = folder / "generation_config.json"
    config = read_json(path, "") if path.is_file() else {}
    config["eos_token_id"] = list(stop_ids) if len(stop_ids) > 1 else stop_ids[0]
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _describe(checkpoint: Checkpoint, out: Path, dtype: str) -> None:
    """Copy everything but weights, and name the dtype in the configuration."""
    copy_description(checkpoint.folder, out)
    if len(checkpoint.files) > 1:
        shutil.copy(checkpoint.folder / INDEX, out / INDEX)
    config: dict[str, Any] = read_json(out / "config.json", "")
    config.pop("torch_dtype", None)
    config.pop("quantization_config", None)
    config["dtype"] = dtype
    (out / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
