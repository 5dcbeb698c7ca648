"""Merge LoRA adapters into 16-bit weights, one tensor at a time.

An adapter trained over NF4 weights learnt to correct them too, so it fits the dequantized base;
users expect the original one. Both are made here; the stage measures which is closer to what was
trained.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from edgetune.errors import Unsupported
from edgetune.models.checkpoint import INDEX, Checkpoint, copy_description
from edgetune.models.checkpoint_tensors import CheckpointTensors
from edgetune.models.lineage import KEY, check_lineage, fingerprint_adapter, lineage_of
from edgetune.models.lora import Adapter
from edgetune.models.lora_config import refuse_start_over_nf4
from edgetune.models.merge_plan import FoldPlan, plan_fold
from edgetune.models.nf4 import through_nf4
from edgetune.models.resolve import read_json
from edgetune.models.safetensors_writer import Entry, write_shard
from edgetune.models.tokenizer_files import copy_tokenizer
from edgetune.models.vocabulary import check_vocabulary


def write_merged(
    base: Path,
    adapters: Sequence[Path],
    out: Path,
    dtype: str,
    nf4_dtype: str | None = None,
) -> list[str]:
    """Write ``base`` with ``adapters`` merged, in their order, as a Hugging Face folder.

    One tensor is in memory at a time, so a model larger than the memory can be merged. Shards keep
    their names. Embeddings that are tied and no longer the same are written apart; a vocabulary
    that the training has resized is as large as the adapter says.

    Args:
        base: model folder.
        adapters: PEFT folders; none only casts the weights.
        out: new folder.
        dtype: of the weights on disk.
        nf4_dtype: merge over the NF4-dequantized base of a training in this compute dtype; none
            merges over the original.

    Returns:
        The names of the changed tensors.

    Raises:
        InputError: the adapter is of another base, or is in already.
        Unsupported: a base in 4 bits, or an adapter that cannot be merged.
    """
    checkpoint = Checkpoint(base)
    checkpoint.check()
    refuse_quantized(base)
    loras = [Adapter(folder, base) for folder in adapters]
    if nf4_dtype:
        for lora in loras:
            refuse_start_over_nf4(lora.config, str(lora.folder))
    lineage = _extend_lineage(base, adapters)
    plan = plan_fold(checkpoint, loras, getattr(torch, dtype), nf4_dtype is not None)
    out.mkdir(parents=True, exist_ok=True)
    fold = _Fold(checkpoint, loras, plan, nf4_dtype)
    for file, entries in plan.files.items():
        write_shard(out / file, entries, fold.make, {"format": "pt", KEY: lineage})
    _describe(checkpoint, plan, out, dtype)
    for lora in loras:
        if lora.tokenizer is not None:
            copy_tokenizer(lora.tokenizer, out)
            check_vocabulary(out)
    return fold.changed


@dataclass
class _Fold:
    """Makes the tensors of a plan; ``changed`` has the names of those an adapter changes."""

    checkpoint: Checkpoint
    loras: Sequence[Adapter]
    plan: FoldPlan
    nf4_dtype: str | None
    changed: list[str] = field(default_factory=list)

    def make(self, entry: Entry) -> torch.Tensor:
        """Return a tensor of the merged model."""
        stored = self.checkpoint.read(entry.source)
        name = self.plan.model_names[entry.name]
        untied = entry.name != entry.source  # the head, until now one with the embedding
        loras = [lora for lora in self.loras if name in lora.touched or untied]
        if loras:
            self.changed.append(entry.name)
        if not stored.is_floating_point():
            return stored
        value = stored
        if self.nf4_dtype and name.removesuffix(".weight") in self.plan.nf4:
            turned = name.removesuffix(".weight") in self.plan.transposed
            value = _through_nf4(stored, self.nf4_dtype, turned)
        for lora in loras:
            value = value.float()
            if untied:
                value = lora.own(self.plan.model_names[entry.source], value)
            value = lora.apply(name, value)
        return value.to(entry.kind)


class MergedTensors(Mapping[str, torch.Tensor]):
    """Tensors of a merge in float32, by the names on disk, each made when it is asked for.

    Attributes:
        shapes: of all tensors.
        reshaped: the merge has a head of its own or another vocabulary, which its base has not.
    """

    def __init__(self, base: Path, adapters: Sequence[Path], nf4_dtype: str | None) -> None:
        checkpoint = Checkpoint(base)
        loras = [Adapter(folder, base) for folder in adapters]
        plan = plan_fold(checkpoint, loras, torch.float32, nf4_dtype is not None)
        self._fold = _Fold(checkpoint, loras, plan, nf4_dtype)
        self._stored = CheckpointTensors(base)
        self._entries = {one.name: one for entries in plan.files.values() for one in entries}
        self.shapes = {name: entry.shape for name, entry in self._entries.items()}
        self.reshaped = plan.untied or plan.rows is not None

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._fold.make(self._entries[name])

    def read_stored_dtype(self, name: str) -> torch.Tensor:
        """Return a tensor in the dtype it is stored in, or in float32 where it is changed."""
        return self[name] if self._changes(name) else self._stored.read_stored_dtype(name)

    def read_rows(self, name: str, rows: torch.Tensor) -> torch.Tensor:
        """Return some rows ``[N, columns]`` of a matrix."""
        return self[name][rows] if self._changes(name) else self._stored.read_rows(name, rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def _changes(self, name: str) -> bool:
        plan = self._fold.plan
        model = plan.model_names[name]
        rounded = self._fold.nf4_dtype and model.removesuffix(".weight") in plan.nf4
        return bool(rounded or any(model in lora.touched for lora in self._fold.loras))


def refuse_quantized(base: Path) -> None:
    """Refuse to merge into weights that are quantized already.

    Raises:
        Unsupported: it names the method.
    """
    config = read_json(base / "config.json", "a model folder has a config.json")
    if config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "quantized")
        raise Unsupported(
            f"its weights are {method} already: rounding them again would lose what was tuned",
            where=str(base),
            hint="merge into the 16-bit model that it was quantized from",
        )


def _through_nf4(weight: torch.Tensor, dtype: str, turned: bool) -> torch.Tensor:
    """Return a weight as NF4 left it: packed [out, in], whichever way it is stored."""
    packed = through_nf4(weight.T if turned else weight, getattr(torch, dtype))
    return packed.T if turned else packed


def _extend_lineage(base: Path, adapters: Sequence[Path]) -> str:
    lineage = lineage_of(base)
    for adapter in adapters:
        check_lineage(adapter, lineage)
        lineage += "+" + fingerprint_adapter(adapter)
    return lineage


def name_stop_ids(folder: Path, stop_ids: Sequence[int]) -> None:
    """Write into ``generation_config.json`` that generation ends where training's answers did.

    The base's own EOS may be another token; a client that reads only this file would never stop.
    """
    path = folder / "generation_config.json"
    config = read_json(path, "") if path.is_file() else {}
    config["eos_token_id"] = list(stop_ids) if len(stop_ids) > 1 else stop_ids[0]
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _describe(checkpoint: Checkpoint, plan: FoldPlan, out: Path, dtype: str) -> None:
    """Copy everything but weights; say dtype, vocabulary and tying in the configuration."""
    copy_description(checkpoint.folder, out)
    if len(plan.files) > 1:
        table = {one.name: file for file, entries in plan.files.items() for one in entries}
        total = sum(one.bytes for entries in plan.files.values() for one in entries)
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(table.items()))}
        (out / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    config: dict[str, Any] = read_json(out / "config.json", "")
    config.pop("torch_dtype", None)
    config.pop("quantization_config", None)
    config["dtype"] = dtype
    for part in (config, config.get("text_config")):
        if plan.rows is not None and part is not None and "vocab_size" in part:
            part["vocab_size"] = plan.rows
        if plan.untied and part is not None:
            part["tie_word_embeddings"] = False
    (out / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
