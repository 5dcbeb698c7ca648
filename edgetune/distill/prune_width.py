"""A narrower student: MLP channels, attention heads and residual channels that matter least go.

What matters is measured by activations on the user's own rows (Muralidharan et al. 2024, arXiv
2407.14679, section 2.2): an MLP channel by the mean size of what it hands to the down projection,
a head by the norm of its output, a residual channel by its mean magnitude after the norms.

For Llama and its variants: separate q/k/v/o and gate/up/down projections.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from edgetune.data.encoded import Encoded
from edgetune.disk import write_atomic
from edgetune.errors import InputError, Unsupported
from edgetune.models.checkpoint import SINGLE, Checkpoint, copy_description
from edgetune.models.resolve import read_json

BLOCK = 32  # ggml's and MatMulNBits' smallest; K-quants want rows of 256
_LAYER = re.compile(r"\.layers\.(?P<number>\d+)\.")


@dataclass(frozen=True)
class Widths:
    """Sizes that a student keeps; ``None`` leaves one as it is."""

    mlp: int | None = None
    heads: int | None = None
    hidden: int | None = None

    def __bool__(self) -> bool:
        return any((self.mlp, self.heads, self.hidden))


@dataclass(frozen=True)
class Importance:
    """Scores on the rows that were read: a layer's by its number in the measured model.

    Attributes:
        mlp: of each MLP channel, [I] a layer.
        heads: of each query head, [H] a layer.
        hidden: of each residual channel, [D].
    """

    mlp: dict[int, torch.Tensor]
    heads: dict[int, torch.Tensor]
    hidden: torch.Tensor


@torch.no_grad()
def measure_importance(model: Any, rows: Sequence[Encoded]) -> Importance:
    """Run ``rows`` through ``model`` (in eval mode) and return what its channels did.

    Raises:
        Unsupported: a family whose projections are not separate.
    """
    config = model.config.get_text_config()
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    sums: dict[str, dict[int, torch.Tensor]] = {"mlp": {}, "heads": {}}
    hidden: list[torch.Tensor] = []
    device = next(model.parameters()).device
    with _record_activations(model, sums, hidden, size):
        for row in rows:
            model(input_ids=torch.tensor([row.ids], device=device), use_cache=False)
    if len(sums["mlp"]) != config.num_hidden_layers or len(sums["heads"]) != len(sums["mlp"]):
        raise Unsupported(
            f"cannot narrow a {config.model_type}: its projections are not separate",
            where="distill.student",
            hint="cut layers alone, or name another model in distill.student.path",
        )
    return Importance(sums["mlp"], sums["heads"], torch.stack(hidden).sum(0))


@contextmanager
def _record_activations(
    model: Any, sums: dict[str, dict[int, torch.Tensor]], hidden: list[torch.Tensor], size: int
) -> Iterator[None]:
    """Add up activations while the model runs."""

    def add(kind: str, layer: int, value: torch.Tensor) -> None:
        sums[kind][layer] = sums[kind].get(layer, torch.zeros_like(value)) + value

    handles = []
    for name, module in model.named_modules():
        match = _LAYER.search(f".{name}")
        layer = int(match["number"]) if match else -1
        if name.endswith(".mlp.down_proj"):

            def channels(_: Any, given: Any, layer: int = layer) -> None:
                add("mlp", layer, given[0].float().abs().flatten(0, -2).sum(0).cpu())

            handles.append(module.register_forward_pre_hook(channels))
        elif name.endswith(".self_attn.o_proj"):

            def heads(_: Any, given: Any, layer: int = layer) -> None:
                each = given[0].float().flatten(0, -2).unflatten(-1, (-1, size))
                add("heads", layer, each.norm(dim=-1).sum(0).cpu())

            handles.append(module.register_forward_pre_hook(heads))
        elif match and name.endswith("layernorm"):

            def channel(_: Any, given: Any, made: Any) -> None:
                hidden.append(made.float().abs().flatten(0, -2).sum(0).cpu())

            handles.append(module.register_forward_hook(channel))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def check_widths(config: Mapping[str, Any], widths: Widths) -> None:
    """Refuse sizes that are no cut, or that no quantized file can hold.

    Raises:
        InputError: names the recipe's key.
    """
    limits = {
        "mlp": config["intermediate_size"],
        "heads": config["num_attention_heads"],
        "hidden": config["hidden_size"],
    }
    for name, limit in limits.items():
        wanted = getattr(widths, name)
        if wanted is None:
            continue
        where = f"distill.student.{name}"
        if wanted > limit:
            raise InputError(f"{wanted} is more than the teacher's {limit}", where=where)
        channels = wanted * (_head_dim(config) if name == "heads" else 1)
        if channels % BLOCK:
            raise InputError(
                f"{wanted} makes rows of {channels}: quantized files need a multiple of {BLOCK}",
                where=where,
                hint="a multiple of 256 takes every scheme",
            )
    group = config["num_attention_heads"] // _key_heads(config)
    if widths.heads and widths.heads % group:
        raise InputError(
            f"{widths.heads} heads: {group} share a key, so it must be a multiple of {group}",
            where="distill.student.heads",
        )


def cut_width(
    folder: Path, layers: Sequence[int], importance: Importance, widths: Widths, out: Path
) -> None:
    """Write the model in ``folder`` with fewer channels, as a Hugging Face folder.

    Args:
        folder: a model whose layer n is layer ``layers[n]`` of the measured one.
        layers: see above.
        importance: of the measured model.
        widths: what is kept.
        out: new folder.
    """
    config = read_json(folder / "config.json", "")
    check_widths(config, widths)
    size, group = _head_dim(config), config["num_attention_heads"] // _key_heads(config)
    residual = _best(importance.hidden, widths.hidden)
    channels = [_best(importance.mlp[layer], widths.mlp) for layer in layers]
    queries, keys = [], []
    for layer in layers:
        scores = importance.heads[layer].unflatten(0, (-1, group)).sum(1)
        kept = _best(scores, widths.heads // group if widths.heads else None)
        keys.append(_spread(kept, size))
        queries.append(_spread(kept, size * group))

    def narrow(name: str, value: torch.Tensor) -> torch.Tensor:
        match = _LAYER.search(name)
        rows, columns = _axes(name)
        number = int(match["number"]) if match else 0
        of = {
            "hidden": residual, "mlp": channels[number], "queries": queries[number],
            "keys": keys[number],
        }  # fmt: skip
        if rows:
            value = value[of[rows]]
        return value[:, of[columns]] if columns else value

    out.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, torch.Tensor] = {}
    checkpoint = Checkpoint(folder)
    for name in checkpoint.names():
        tensors[name] = narrow(name, checkpoint.read(name)).contiguous()
    temporary = out / "model.tmp"
    save_file(tensors, temporary, metadata={"format": "pt"})
    temporary.replace(out / SINGLE)
    copy_description(folder, out)
    changed = {
        "hidden_size": widths.hidden, "intermediate_size": widths.mlp,
        "num_attention_heads": widths.heads, "head_dim": size,
        "num_key_value_heads": widths.heads // group if widths.heads else None,
    }  # fmt: skip
    config |= {name: value for name, value in changed.items() if value is not None}
    write_atomic(out / "config.json", json.dumps(config, indent=2))


def _axes(name: str) -> tuple[str, str]:
    """Return what the rows and the columns of a tensor are."""
    part = name.removesuffix(".weight").removesuffix(".bias").rpartition(".")[2]
    vector = name.endswith(".bias")
    table: dict[str, tuple[str, str]] = defaultdict(lambda: ("hidden", ""))  # norms
    table |= {
        "q_proj": ("queries", "hidden"), "k_proj": ("keys", "hidden"), "v_proj": ("keys", "hidden"),
        "o_proj": ("hidden", "queries"), "gate_proj": ("mlp", "hidden"),
        "up_proj": ("mlp", "hidden"), "down_proj": ("hidden", "mlp"),
        "embed_tokens": ("", "hidden"), "lm_head": ("", "hidden"),
        "q_norm": ("", ""), "k_norm": ("", ""),  # of a head's own size
    }  # fmt: skip
    rows, columns = table[part]
    return rows, "" if vector else columns


def _best(scores: torch.Tensor, count: int | None) -> torch.Tensor:
    """Return the numbers of the ``count`` largest, in order; all of them for ``None``."""
    if count is None:
        return torch.arange(len(scores))
    return scores.topk(count).indices.sort().values


def _spread(kept: torch.Tensor, size: int) -> torch.Tensor:
    """Return the channels of the kept heads of ``size`` channels each."""
    return (kept[:, None] * size + torch.arange(size)).flatten()


def _head_dim(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _key_heads(config: Mapping[str, Any]) -> int:
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])
