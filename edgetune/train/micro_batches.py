"""Where a step does not fit the GPU, its micro-batches are halved, and it is done again."""

from __future__ import annotations

from typing import Any

import torch

from edgetune.errors import MachineFault
from edgetune.log import Log

_HINT = (
    "set gradient_checkpointing: true, or a smaller batch_size with more gradient_accumulation: "
    "`edgetune plan RECIPE` says what fits"
)


class HalvingMixin:
    """For a ``transformers.Trainer`` whose losses are sums over tokens, divided once a step.

    When CUDA runs out of memory, the gradients of the step are dropped and all its micro-batches
    are done again in halves, as those of all later steps are: as many forward passes more, the same
    rows per step. Once: what still does not fit then is an error.
    """

    state: Any
    run_log = Log(quiet=True)
    _halved = False
    _step = -1  # whose micro-batches are in ``_done``

    def targets_in(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return a mask of a batch's tokens that have a loss."""
        raise NotImplementedError

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Return a micro-batch's loss, its gradients added up.

        Raises:
            MachineFault: out of memory, in halves too.
        """
        if self._halved:
            return self._step_in_halves(model, [inputs], num_items_in_batch)
        if self._step != self.state.global_step:
            self._step, self._done = self.state.global_step, list[dict[str, Any]]()
        self._done.append(inputs)
        try:
            return self._whole_step(model, inputs, num_items_in_batch)
        except torch.cuda.OutOfMemoryError:
            self._halved = True
        # Here the exception is gone, and with its traceback what the step had in memory.
        self.run_log.warn(
            f"CUDA out of memory in step {self._step + 1}: this step is done again, and training "
            "goes on, with half the rows in a forward pass and twice the gradient accumulation; "
            "what a step trains on stays the same"
        )
        model.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        done, self._done = self._done, []
        return self._step_in_halves(model, done, num_items_in_batch)

    def _step_in_halves(
        self, model: Any, batches: list[dict[str, Any]], count: Any
    ) -> torch.Tensor:
        """Return the loss of the last batch."""
        total = torch.zeros(())
        try:
            for batch in batches:
                halves = halve(batch, self.targets_in(batch))
                losses = [self._whole_step(model, half, count) for half in halves]
                total = torch.stack(losses).sum()
        except torch.cuda.OutOfMemoryError as error:
            raise MachineFault(
                "the GPU's memory does not suffice for half a micro-batch",
                where=str(error)[:200],
                hint=_HINT,
            ) from error
        return total

    def _whole_step(self, model: Any, inputs: dict[str, Any], count: Any) -> torch.Tensor:
        trainer: Any = super()
        loss: torch.Tensor = trainer.training_step(model, inputs, count)
        return loss


def halve(batch: dict[str, Any], targets: torch.Tensor) -> list[dict[str, Any]]:
    """Return a batch in two halves, or whole where it has one row.

    Args:
        batch: rows [B, T]; or packed rows one after the other [1, T], whose ``position_ids`` begin
            with 0; teacher's targets [P, …] for the positions with a loss.
        targets: [B, …], a mask of these positions.
    """
    rows, length = batch["input_ids"].shape
    if rows > 1:
        middle = rows // 2
        positions = int(targets[:middle].sum())
        cuts = {n: positions if n.startswith("teacher_") else middle for n in batch}
        return [
            {name: values[: cuts[name]] for name, values in batch.items()},
            {name: values[cuts[name] :] for name, values in batch.items()},
        ]
    if "position_ids" not in batch:
        return [batch]
    starts = (batch["position_ids"][0] == 0).nonzero().flatten().tolist()
    middle = min(starts[1:], key=lambda start: abs(start - length // 2), default=0)
    if not middle:
        return [batch]
    return [_part_of_packed(batch, 0, middle), _part_of_packed(batch, middle, length)]


def _part_of_packed(batch: dict[str, Any], first: int, last: int) -> dict[str, Any]:
    """Return the packed rows between two boundaries, with boundaries and numbers of their own."""
    part = dict(batch)
    for name in ("input_ids", "labels", "position_ids", "seq_idx"):
        if name in batch:
            part[name] = batch[name][:, first:last]
    if "seq_idx" in part:
        part["seq_idx"] = part["seq_idx"] - part["seq_idx"][0, 0]
    for side in ("q", "k"):
        if f"cu_seq_lens_{side}" in batch:
            ends = batch[f"cu_seq_lens_{side}"]
            ends = ends[(ends >= first) & (ends <= last)] - first
            part[f"cu_seq_lens_{side}"] = ends
            part[f"max_length_{side}"] = int(ends.diff().max())
    return part
