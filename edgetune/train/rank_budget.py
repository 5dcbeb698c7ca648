"""``rank: auto``: a budget of adapter parameters spent where the loss asks for it most.

To first order, an update of a weight lowers the loss by its inner product with the negative
gradient G. Adam's steps have one size whatever a gradient's is, so that what rank r can gain is the
sum of G's r largest singular values, not of their squares (Bernstein and Newhouse 2024, arXiv
2409.20325: steepest descent under the spectral norm). Each rank of a layer costs in + out
parameters. Gains of a layer fall with its rank, so that taking the largest gain per parameter, one
rank after the other, spends the budget best. (Ranks by sensitivity: AdaLoRA, Zhang et al. 2023,
arXiv 2303.10512; by gradients before training: GoRA, He et al. 2025, arXiv 2502.12171.)

G itself is never made. The gradient of B of an adapter that starts at zero is G Aᵀ, with rows of A
orthonormal a sketch of G (Halko et al. 2011, arXiv 0909.4061, section 4): one pass over some rows,
in the memory of a training step.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from edgetune.data.encoded import Encoded
from edgetune.disk import write_atomic
from edgetune.log import counted
from edgetune.models.adapters import add_adapter
from edgetune.recipe import TuneSection
from edgetune.train.tuning_step import Tuning

CALIBRATION_ROWS = 128
#: Columns of a sketch per rank of the budget.
SKETCH = 4


@dataclass(frozen=True)
class Layer:
    """What a layer's gradient says of it.

    Attributes:
        gains: singular values of the gradient, largest first: as many as ranks it may have.
        cost: parameters of each rank.
    """

    gains: tuple[float, ...]
    cost: int


def choose_ranks(tuning: Tuning) -> dict[str, int] | None:
    """Return the ranks of a step's ``rank: auto``; none where it has no new adapter of that kind.

    Args:
        tuning: of which the model has no adapter yet.
    """
    section, run = tuning.section, tuning.run
    if section.rank != "auto" or section.method == "full" or tuning.start.adapter is not None:
        return None
    rows = replace(tuning, run=replace(run, log=run.log.muted())).encode("train").encoded
    kept = run.checkpoints.with_name(f"{run.role}-ranks.json")
    ranks = find_ranks(tuning.model, section, rows, run.seed, kept)
    some = [rank for rank in ranks.values() if rank]
    run.log.say(
        f"rank: auto gives {len(some)} of {counted(len(ranks), 'layer')} an adapter, of ranks "
        f"{min(some)} to {max(some)}"
    )
    return ranks


def find_ranks(
    model: Any, section: TuneSection, rows: Sequence[Encoded], seed: int, kept: Path
) -> dict[str, int]:
    """Return the rank of each layer that ``section`` names, by its name; 0 for no adapter.

    Args:
        model: before an adapter is added; unchanged after.
        section: with ``rank: auto``.
        rows: train rows, of which :data:`CALIBRATION_ROWS` are taken evenly.
        seed: of the sketch.
        kept: file of the ranks, so that a resumed training has those of the first.
    """
    if kept.is_file():
        found: dict[str, int] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    step = max(1, len(rows) // CALIBRATION_ROWS)
    some = [rows[at] for at in range(0, len(rows), step)][:CALIBRATION_ROWS]
    ranks = spend_budget(measure_layers(model, section, some, seed), section.rank_budget)
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(kept, json.dumps(ranks))
    return ranks


def spend_budget(layers: Mapping[str, Layer], rank: int) -> dict[str, int]:
    """Return ranks of at most as many parameters in all as rank ``rank`` of every layer has.

    What is left is less than the cheapest rank that can still be had.
    """
    left = sum(rank * layer.cost for layer in layers.values())
    ranks = dict.fromkeys(layers, 0)
    queue = [(-one.gains[0] / one.cost, name) for name, one in layers.items() if one.gains]
    heapq.heapify(queue)
    while queue:
        _, name = heapq.heappop(queue)
        layer = layers[name]
        if layer.cost > left:
            continue
        left -= layer.cost
        ranks[name] += 1
        if ranks[name] < len(layer.gains):
            heapq.heappush(queue, (-layer.gains[ranks[name]] / layer.cost, name))
    return ranks


def measure_layers(
    model: Any, section: TuneSection, rows: Sequence[Encoded], seed: int
) -> dict[str, Layer]:
    """Return what the gradient of the rows' loss says of each layer.

    Args:
        model: before an adapter is added; unchanged after.
        section: names the layers, and the size of a batch.
        rows: one pass is made over them.
        seed: of the sketch.
    """
    width = SKETCH * section.rank_budget
    sketch = section.model_copy(
        update={"rank": width, "alpha": float(width), "dropout": 0.0, "rslora": False,
                "dora": False, "init": "default", "modules_to_save": []}
    )  # fmt: skip
    adapted = add_adapter(model, sketch, seed)
    generator = torch.Generator().manual_seed(seed)
    modules = {n: one for n, one in adapted.named_modules() if hasattr(one, "lora_B")}
    for module in modules.values():
        for part in module.lora_A.values():
            rows_RD = torch.randn(part.weight.shape, generator=generator)
            part.weight.data.copy_(torch.nn.init.orthogonal_(rows_RD, generator=generator))
    was_training = adapted.training
    adapted.train()
    total = max(1, sum(sum(row.trained[1:]) for row in rows))
    for at in range(0, len(rows), section.batch_size):
        (_loss_sum(adapted, rows[at : at + section.batch_size]) / total).backward()
    adapted.train(was_training)
    found = {
        name.removeprefix("base_model.model."): _describe(module)
        for name, module in sorted(modules.items())
        if len(module.lora_B)
    }
    adapted.unload()
    vars(model).pop("peft_config", None)
    return found


def _loss_sum(model: Any, rows: Sequence[Encoded]) -> torch.Tensor:
    """Return the cross-entropy at trained positions, summed."""
    device = next(model.parameters()).device
    longest = max(len(row.ids) for row in rows)
    ids_BT = torch.zeros((len(rows), longest), dtype=torch.long)
    labels_BT, mask_BT = torch.full_like(ids_BT, -100), torch.zeros_like(ids_BT)
    for number, row in enumerate(rows):
        ids_T, trained_T = torch.tensor(row.ids), torch.tensor(row.trained).bool()
        ids_BT[number, : len(ids_T)], mask_BT[number, : len(ids_T)] = ids_T, 1
        labels_BT[number, : len(ids_T)] = torch.where(trained_T, ids_T, -100)
    logits_BTV = model(
        input_ids=ids_BT.to(device), attention_mask=mask_BT.to(device), use_cache=False
    ).logits
    return F.cross_entropy(
        logits_BTV[:, :-1].flatten(0, 1).float(), labels_BT[:, 1:].flatten().to(device),
        ignore_index=-100, reduction="sum",
    )  # fmt: skip


def _describe(module: Any) -> Layer:
    (name,) = module.lora_B
    grad_OR = module.lora_B[name].weight.grad
    rank, columns = module.lora_A[name].weight.shape
    most = min(rank, columns, len(grad_OR))
    values = torch.linalg.svdvals(grad_OR.float().cpu())[:most]
    return Layer(tuple(float(value) for value in values), columns + len(grad_OR))
