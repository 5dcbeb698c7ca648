"""What the student minimises, of its hidden states and head: each a sum over trained positions.

P positions, D hidden size, V vocabulary, K kept entries of a teacher's distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from edgetune.distill.cache import Cache
from edgetune.distill.sparse_probs import Target
from edgetune.models.batching import unmasked
from edgetune.models.head import find_head, head_only_at, hidden_at
from edgetune.ops import Choice
from edgetune.ops.linear_loss import ChunkLoss, Head, linear_loss_sum, whole_loss_sum
from edgetune.ops.sparse_loss import SparseTargets


class StudentLoss(Protocol):
    """A training objective: the loss of trained positions, summed."""

    def of_chunk(self, batch: dict[str, torch.Tensor], labels_P: torch.Tensor) -> ChunkLoss:
        """Return the loss of some positions of this batch (:mod:`edgetune.ops.linear_loss`)."""

    def prepare(self, progress: float) -> None:
        """Update weights that depend on progress, the fraction of all steps done."""

    @property
    def vocabulary(self) -> int | None:
        """Tokens the loss knows: rows of the student's head beyond them are left out."""


class CrossEntropy:
    """Cross-entropy to the rows' own answers: training without a teacher."""

    vocabulary: int | None = None

    def __init__(self, sparse_loss: Choice) -> None:
        self._loss = sparse_loss.function

    def prepare(self, progress: float) -> None:
        return

    def of_chunk(self, batch: dict[str, torch.Tensor], labels_P: torch.Tensor) -> ChunkLoss:
        return lambda logits_CV, first, last: self._loss(logits_CV, labels_P[first:last], None)


class KDWeight:
    """The weight of the teacher's part, which may grow from nothing over the first steps."""

    def __init__(self, weight: float, warmup: float = 0.0) -> None:
        self._weight, self._warmup = weight, warmup
        self.now = 0.0 if warmup else weight

    def prepare(self, progress: float) -> None:
        """Set the weight for a fraction of all steps done."""
        grown = min(1.0, progress / self._warmup) if self._warmup else 1.0
        self.now = self._weight * grown


class CachedKD:
    """Cross-entropy mixed with forward KL to the cached distribution."""

    def __init__(self, cache: Cache, sparse_loss: Choice, weight: float, warmup: float) -> None:
        self._loss, self._mix = sparse_loss.function, KDWeight(weight, warmup)
        self._temperature = cache.settings.temperature
        self.vocabulary: int | None = cache.vocabulary
        self.prepare = self._mix.prepare

    def of_chunk(self, batch: dict[str, torch.Tensor], labels_P: torch.Tensor) -> ChunkLoss:
        targets = SparseTargets(
            batch["teacher_ids"], batch["teacher_probs"], batch.get("teacher_tail")
        )
        weight = self._mix.now
        return lambda logits_CV, first, last: self._loss(
            logits_CV, labels_P[first:last], targets.rows(first, last), weight, self._temperature
        )


@dataclass(frozen=True)
class Divergence:
    """A divergence of two dense distributions (:mod:`edgetune.ops.dense_loss`).

    Attributes:
        loss: its implementation.
        name: ``forward_kl``, ``reverse_kl``, ``jsd`` or ``skewed_kl``.
        mix: β of ``jsd``, α of ``skewed_kl``; the others read none.
        temperature: of both softmaxes.
    """

    loss: Choice
    name: str = "forward_kl"
    mix: float = 0.5
    temperature: float = 1.0

    def of(self, logits_CV: torch.Tensor, teacher_CV: torch.Tensor) -> torch.Tensor:
        """Return the divergence at each of C positions; the gradient replaces the logits."""
        found: torch.Tensor = self.loss.function(
            logits_CV, teacher_CV, self.name, self.mix, self.temperature
        )
        return found


class OnlineKD:
    """Cross-entropy mixed with a divergence to a teacher that stays in memory.

    Args:
        teacher: a model in torch, in eval mode.
        divergence: of student and teacher.
        sparse_loss: the cross-entropy.
        weight: of the divergence; cross-entropy has the rest.
        vocabulary: tokens that both models have.
    """

    def __init__(
        self,
        teacher: Any,
        divergence: Divergence,
        sparse_loss: Choice,
        weight: KDWeight,
        vocabulary: int,
    ) -> None:
        self._teacher = teacher
        self._head = cut_head(find_head(teacher), vocabulary)
        self._divergence, self._weight = divergence, weight
        self._sparse: Callable[..., torch.Tensor] = sparse_loss.function
        self.vocabulary: int | None = vocabulary
        self.prepare = weight.prepare

    def of_chunk(self, batch: dict[str, torch.Tensor], labels_P: torch.Tensor) -> ChunkLoss:
        logits_of = self._read_teacher(batch)
        weight = self._weight.now

        def loss_(logits_CV: torch.Tensor, first: int, last: int) -> torch.Tensor:
            teacher_CV = logits_of(first, last)
            labels_C = labels_P[first:last]
            if weight == 1.0:
                return self._divergence.of(logits_CV, teacher_CV)
            copy_CV = logits_CV.clone()
            far_C = self._divergence.of(copy_CV, teacher_CV)
            wrong_C = self._sparse(logits_CV, labels_C, None)
            logits_CV.mul_(1 - weight).add_(copy_CV, alpha=weight)
            return (1 - weight) * wrong_C + weight * far_C

        return loss_

    @torch.no_grad()
    def _read_teacher(self, batch: dict[str, torch.Tensor]) -> Callable[[int, int], torch.Tensor]:
        """Return what gives the teacher's logits of some positions, a copy each time."""
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        trained_BT = batch["labels"] != -100
        if self._head is None:
            with head_only_at(self._teacher, trained_BT):
                whole_PV = self._teacher(**inputs, use_cache=False).logits[:, : self.vocabulary]
            return lambda first, last: whole_PV[first:last].float().clone()
        head, hidden_PD = self._head, hidden_at(self._teacher, trained_BT, **inputs)
        return lambda first, last: head.logits(hidden_PD[first:last])


def cut_head(head: Head | None, vocabulary: int | None) -> Head | None:
    """Return the head of the first ``vocabulary`` tokens."""
    if head is None or vocabulary is None or vocabulary >= len(head.weight_VD):
        return head
    bias = None if head.bias_V is None else head.bias_V[:vocabulary]
    return head._replace(weight_VD=head.weight_VD[:vocabulary], bias_V=bias)


def pad_targets(targets: Sequence[Target]) -> dict[str, torch.Tensor]:
    """Return ``teacher_ids``, ``teacher_probs`` [P, K], of a top-k cut ``teacher_tail`` [P] too."""
    lengths = np.concatenate([target.lengths for target in targets])
    filled_PK = np.arange(int(lengths.max(initial=1)))[None, :] < lengths[:, None]
    ids_PK = np.zeros(filled_PK.shape, dtype=np.int64)
    probs_PK = np.zeros(filled_PK.shape, dtype=np.float32)
    ids_PK[filled_PK] = np.concatenate([target.ids for target in targets])
    probs_PK[filled_PK] = np.concatenate([target.probs for target in targets])
    found = {
        "teacher_ids": torch.from_numpy(ids_PK), "teacher_probs": torch.from_numpy(probs_PK),
    }  # fmt: skip
    tails = [target.tail for target in targets if target.tail is not None]
    if tails:
        found["teacher_tail"] = torch.from_numpy(np.concatenate(tails))
    return found


def loss_of(
    model: Any, head: Head | None, batch: dict[str, torch.Tensor], loss: StudentLoss
) -> tuple[torch.Tensor, int]:
    """Return the loss's sum over a batch's trained positions, and how many there are.

    ``head`` is the model's own; none where its formula is not known, which takes more memory.
    """
    labels_BT = batch["labels"]
    trained_BT = labels_BT != -100
    labels_P = labels_BT[trained_BT]
    chunk = loss.of_chunk(batch, labels_P)
    inputs = unmasked({name: batch[name] for name in ("input_ids", "attention_mask")})
    if head is None:
        with head_only_at(model, trained_BT):
            logits_PV = model(**inputs, use_cache=False).logits[:, : loss.vocabulary]
        return whole_loss_sum(logits_PV, chunk), labels_P.numel()
    hidden_PD = hidden_at(model, trained_BT, **inputs)
    cut = cut_head(head, loss.vocabulary)
    assert cut is not None
    return linear_loss_sum(hidden_PD, cut, chunk), labels_P.numel()
