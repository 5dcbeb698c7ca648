"""Rounding in which a column's error is made up for by the columns after it.

GPTQ (Frantar et al. 2022, arXiv 2210.17323, section 3 and algorithm 1) on a grid that is given:
scales and offsets stay as plain rounding chose them, codes are chosen anew, column by column, and
what a column's rounding does to the output is spread over the columns that are still open. It
needs the second moments of the inputs, and seconds where training takes minutes.

R rows, C columns, B blocks a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from edgetune.log import Log
from edgetune.models.passes import batch_sequences, device_of, replaced_forward
from edgetune.quantize.lattice import Grid
from edgetune.quantize.weights import Fused, Weight

#: Share of the mean second moment that is added to each column's: 0.01 of the paper follows 10,000
#: calibration tokens too closely (KL on test rows 5 to 16 % higher).
DAMPING = 0.1
_GROUP = 128  # columns whose errors are passed on together


def measure_moments(
    model: Any,
    weights: Sequence[Weight | Fused],
    sequences: Sequence[Sequence[int]],
    log: Log,
) -> dict[str, np.ndarray]:
    """Return tensor name to the mean outer product of the inputs of its matrix, float32 [C, C].

    A lookup has none. One layer's matrices together take about the memory of its weights.

    Args:
        model: in torch.
        weights: the matrices; one that is fused has one input.
        sequences: token ids.
        log: where bars go.
    """
    from transformers.pytorch_utils import Conv1D

    readers = {
        id(module.weight): module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
    }
    found: dict[str, torch.Tensor] = {}
    batch, handles = {"real_BT": torch.empty(0)}, []

    def watch(tensor: str) -> Any:
        def add(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            inputs_NC = inputs[0].reshape(-1, inputs[0].shape[-1]).float()
            real_N = batch["real_BT"].reshape(-1)
            if len(inputs_NC) == len(real_N):
                inputs_NC = inputs_NC[real_N]
            found[tensor] = found.get(tensor, 0) + inputs_NC.T @ inputs_NC

        return add

    for weight in weights:
        part = weight if isinstance(weight, Weight) else weight.parts[0]
        reader = readers.get(id(model.get_parameter(part.parameter)))
        if reader is not None:
            handles.append(reader.register_forward_pre_hook(watch(weight.tensor)))
    head = model.get_output_embeddings()  # its inputs are wanted, its scores are not
    try:
        with (
            torch.inference_mode(),
            replaced_forward(head, lambda hidden_BTD: hidden_BTD[..., :1]),
            log.progress("moments", len(sequences)) as bar,
        ):
            for numbers, ids_BT, real_BT in batch_sequences(sequences):
                batch["real_BT"] = real_BT
                model(ids_BT.to(device_of(model)), use_cache=False)
                bar.update(len(numbers))
    finally:
        for handle in handles:
            handle.remove()
    tokens = max(1, sum(map(len, sequences)))
    return {tensor: (sums / tokens).cpu().numpy() for tensor, sums in found.items()}


@torch.no_grad()
def round_with_feedback(
    values_RC: np.ndarray, raw: np.ndarray, grid: Grid, moments_CC: np.ndarray
) -> np.ndarray:
    """Return the rows ``raw`` with codes that make up for each other's errors.

    Args:
        values_RC: float32, what was rounded.
        raw: its bytes by plain rounding, uint8 [R, row bytes].
        grid: of their type.
        moments_CC: of :func:`measure_moments`.
    """
    parts = grid.take_apart(raw)
    blocks = parts.scale_RB.shape[1]
    scale_RB = torch.from_numpy(parts.scale_RB.copy())
    offset_RB, zero_RB = (
        torch.full_like(scale_RB, fixed) if own is None else torch.from_numpy(own.copy())
        for own, fixed in ((parts.offset_RB, 0.0), (parts.zero_RB, float(grid.zero)))
    )
    still_RB = scale_RB == 0  # nothing to choose
    codes_RC = torch.from_numpy(parts.codes_RC.copy()).float()
    left_RC = torch.from_numpy(values_RC).clone()
    columns = left_RC.shape[1]
    spread_CC = _spread(moments_CC)
    for start in range(0, columns, _GROUP):
        end = min(start + _GROUP, columns)
        errors_RG = torch.zeros(len(left_RC), end - start)
        for column in range(start, end):
            block = column * blocks // columns
            scale_R, offset_R, zero_R = (each[:, block] for each in (scale_RB, offset_RB, zero_RB))
            still_R = still_RB[:, block]
            steps_R = (left_RC[:, column] + offset_R) / torch.where(still_R, 1.0, scale_R) + zero_R
            nearest_R = steps_R.round_().clamp_(grid.first, grid.last)
            code_R = torch.where(still_R, codes_RC[:, column], nearest_R)
            codes_RC[:, column] = code_R
            missed_R = left_RC[:, column] - ((code_R - zero_R) * scale_R - offset_R)
            errors_RG[:, column - start] = missed_R / spread_CC[column, column]
            left_RC[:, column:end] -= torch.outer(
                errors_RG[:, column - start], spread_CC[column, column:end]
            )
        left_RC[:, end:] -= errors_RG @ spread_CC[start:end, end:]
    return grid.put_together(raw, codes_RC.to(torch.uint8).numpy())


def weighed_error(off_RC: np.ndarray, moments_CC: np.ndarray) -> float:
    """Return the mean squared error of the outputs, summed over rows, that weights so far off do.

    Args:
        off_RC: float32, rounded values less true ones.
        moments_CC: of :func:`measure_moments`.
    """
    return float(((off_RC @ moments_CC) * off_RC).sum(dtype=np.float64))


def _spread(moments_CC: np.ndarray) -> torch.Tensor:
    """Return the upper Cholesky factor of the inverse of the damped moments, float32."""
    damped_CC = torch.from_numpy(moments_CC).double()
    # Columns whose inputs are all 0 would make the matrix singular.
    level = max(float(damped_CC.diagonal().mean()), 1e-12)
    damped_CC.diagonal().add_(DAMPING * level)
    inverse_CC = torch.cholesky_inverse(torch.linalg.cholesky(damped_CC))
    return torch.linalg.cholesky(inverse_CC, upper=True).float()
