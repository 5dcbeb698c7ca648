"""What both trainers have in common: rows of similar length together, validation by loss alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from edgetune.train.sampler import SimilarLengths


class RowsMixin:
    """For a ``transformers.Trainer`` whose rows differ in length."""

    args: Any

    def row_lengths(self) -> Sequence[int]:
        """Return the tokens of every training row."""
        raise NotImplementedError

    def _get_train_sampler(self, train_dataset: Any = None) -> SimilarLengths:
        # Grouped by optimizer step, so that the size of a forward pass does not change the order.
        rows = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return SimilarLengths(self.row_lengths(), rows, self.args.seed)

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[torch.Tensor, None, None]:
        """Return a validation batch's loss; its logits are not kept."""
        trainer: Any = self
        with torch.no_grad():
            loss = trainer.compute_loss(model, trainer._prepare_inputs(inputs))
        return loss.detach(), None, None
