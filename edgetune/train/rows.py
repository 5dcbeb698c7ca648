"""What the trainers have in common: tokens counted once, validation by token, similar lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from edgetune.train.length_batches import LengthBatches
from edgetune.train.micro_batches import HalvingMixin


class TokensMixin(HalvingMixin):
    """For a ``transformers.Trainer`` whose losses are sums over tokens, divided once.

    Transformers counts the labels of a step itself, by what it knows of the model's own loss; here
    the loss is ours or TRL's, and :meth:`targets_in` says which tokens it is of.
    """

    args: Any
    loss_is_scaled_for_ga = True  # divided by the tokens of the whole step, in any micro-batch

    def targets_in(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return a mask of a batch's tokens that have a loss; here labels are not shifted yet."""
        return batch["labels"][..., 1:] != -100

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> torch.Tensor:
        """Return how many tokens of an optimizer step have a loss, at least 1."""
        counts = [self.targets_in(batch).sum() for batch in batch_samples]
        return torch.stack(counts).sum().clamp(min=1).to(device)

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[torch.Tensor, None, None]:
        """Return a validation batch's loss; its logits are not kept."""
        trainer: Any = self
        inputs = trainer._prepare_inputs(inputs)
        count = int(self.targets_in(inputs).sum())
        with torch.no_grad():
            loss = trainer.compute_loss(model, inputs)
        if count:
            self._validation[0] += float(loss) * count
            self._validation[1] += count
        return loss.detach(), None, None

    def evaluation_loop(self, *arguments: Any, **named: Any) -> Any:
        """Return the loss over all tokens; a mean of batches would depend on their size."""
        self._validation = [0.0, 0]
        output = super().evaluation_loop(*arguments, **named)  # type: ignore[misc]
        total, count = self._validation
        for name in output.metrics:
            if name.endswith("_loss"):
                output.metrics[name] = total / max(count, 1)
        return output


class RowsMixin(TokensMixin):
    """For rows that differ in length: similar ones together, so that little is padded."""

    def row_lengths(self) -> Sequence[int]:
        """Return the tokens of every training row."""
        raise NotImplementedError

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthBatches:
        # Grouped by optimizer step, so that the size of a forward pass does not change the order.
        rows = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return LengthBatches(self.row_lengths(), rows, self.args.seed)
