"""Rounding in which a column's error is made up for by the columns after it.

GPTQ (Frantar et al. 2022, arXiv 2210.17323, section 3 and algorithm 1) on a grid that is given:
with the scales and offsets of plain rounding, codes are chosen anew, column by column, and what a
column's rounding does to the output is spread over the columns that are still open. Then the
float16 factors of each row's superblocks are fitted to these codes by least squares, all at once.
It needs the second moments of the inputs, and seconds where training takes minutes.

R rows, C columns, B blocks and S superblocks a row, F factors a superblock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from edgetune.log import Log
from edgetune.models.batching import batch_sequences, device_of, replaced_forward
from edgetune.quantize.methods.fake_quant import Grid
from edgetune.quantize.weights import Fused, Weight

#: Share of the mean second moment that is added to each column's: 0.01 of the paper follows 10,000
#: calibration tokens too closely (KL on test rows 5 to 16 % higher).
DAMPING = 0.1
_GROUP = 128  # columns whose errors are passed on together
_CHUNK_ROWS = 4096  # whose codes are chosen together: what changes of them stays in the cache
_CHUNK_VALUES = 1 << 22  # of rows whose factors are fitted together


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


class Feedback:
    """The inputs of one matrix, and rounding that knows them.

    Args:
        moments_CC: of :func:`measure_moments`.
    """

    def __init__(self, moments_CC: np.ndarray) -> None:
        self._moments_CC = moments_CC
        damped_CC = torch.from_numpy(moments_CC).double().clone()
        # Columns whose inputs are all 0 would make the matrix singular.
        level = max(float(damped_CC.diagonal().mean()), 1e-12)
        damped_CC.diagonal().add_(DAMPING * level)
        self._damped_CC = damped_CC.float()
        inverse_CC = torch.cholesky_inverse(torch.linalg.cholesky(damped_CC))
        self._spread_CC = torch.linalg.cholesky(inverse_CC, upper=True).float()

    def round(self, values_RC: np.ndarray, raw: np.ndarray, grid: Grid) -> np.ndarray:
        """Return the rows with codes that make up for each other's errors, and fitted factors.

        Args:
            values_RC: float32, what was rounded.
            raw: its bytes by plain rounding, uint8 [R, row bytes].
            grid: of their type.
        """
        return self.fit_factors(values_RC, self.choose_codes(values_RC, raw, grid), grid)

    def make_up(self, values_RC: np.ndarray, lacking_CC: np.ndarray) -> np.ndarray:
        """Return the rows that give from these inputs what ``values_RC`` gave from others.

        As nearly as least squares can, damped as the moments are: W + W·L·H⁻¹.

        Args:
            values_RC: float32.
            lacking_CC: mean over tokens of (other input − input) · inputᵀ.
        """
        wanted_CR = torch.from_numpy(values_RC @ lacking_CC).double().T
        factor_CC = torch.linalg.cholesky(self._damped_CC.double())
        added_RC: np.ndarray = torch.cholesky_solve(wanted_CR, factor_CC).T.float().numpy()
        return np.ascontiguousarray(values_RC + added_RC)

    def error(self, off_RC: np.ndarray) -> float:
        """Return the mean squared error of the outputs, summed over rows, of weights so far off.

        Args:
            off_RC: float32, rounded values less true ones.
        """
        return float(((off_RC @ self._moments_CC) * off_RC).sum(dtype=np.float64))

    @torch.no_grad()
    def choose_codes(self, values_RC: np.ndarray, raw: np.ndarray, grid: Grid) -> np.ndarray:
        """Return the rows ``raw`` with codes that make up for each other's errors."""
        parts = grid.take_apart(raw)

        def turned(each_RB: np.ndarray | None, fixed: float = 0.0) -> torch.Tensor:
            if each_RB is None:
                return torch.full(parts.scale_RB.T.shape, fixed)
            return torch.from_numpy(each_RB.T.astype(np.float32, order="C"))

        # Columns lie together, as they are gone through.
        blocks_BR = (
            turned(parts.scale_RB), turned(parts.offset_RB), turned(parts.zero_RB, grid.zero)
        )  # fmt: skip
        codes_CR, left_CR = turned(parts.codes_RC), turned(values_RC)
        for start in range(0, codes_CR.shape[1], _CHUNK_ROWS):
            rows = slice(start, start + _CHUNK_ROWS)
            self._choose(
                codes_CR[:, rows], left_CR[:, rows].clone(), *(each[:, rows] for each in blocks_BR),
                grid,
            )  # fmt: skip
        return grid.put_together(raw, codes_CR.T.to(torch.uint8).contiguous().numpy())

    def _choose(
        self, codes_CR: torch.Tensor, left_CR: torch.Tensor, scale_BR: torch.Tensor,
        offset_BR: torch.Tensor, zero_BR: torch.Tensor, grid: Grid,
    ) -> None:  # fmt: skip
        """Put codes of some rows in place of ``codes_CR``; ``left_CR`` is used up."""
        columns, spread_CC = len(left_CR), self._spread_CC
        per_block = columns // len(scale_BR)
        for start in range(0, columns, _GROUP):
            end = min(start + _GROUP, columns)
            errors_GR = torch.empty(end - start, left_CR.shape[1])
            for column in range(start, end):
                block = column // per_block
                scale_R, offset_R, zero_R = scale_BR[block], offset_BR[block], zero_BR[block]
                if column % per_block == 0:
                    still_R = scale_R == 0  # nothing to choose
                    divisor_R = torch.where(still_R, 1.0, scale_R)
                steps_R = (left_CR[column] + offset_R) / divisor_R
                nearest_R = (steps_R + zero_R).round_().clamp_(grid.first, grid.last)
                code_R = torch.where(still_R, codes_CR[column], nearest_R)
                codes_CR[column] = code_R
                missed_R = left_CR[column] - ((code_R - zero_R) * scale_R - offset_R)
                error_R = errors_GR[column - start] = missed_R / spread_CC[column, column]
                left_CR[column:end].addr_(spread_CC[column, column:end], error_R, alpha=-1)
            left_CR[end:].addmm_(spread_CC[start:end, end:].T, errors_GR, alpha=-1)

    @torch.no_grad()
    def fit_factors(self, values_RC: np.ndarray, raw: np.ndarray, grid: Grid) -> np.ndarray:
        """Return the rows ``raw`` with the factors of their superblocks that suit their codes best.

        A row whose error does not fall, float16 being what it is, stays as it was.
        """
        unknowns = grid.read_factors(raw[:1]).size
        step = max(1, _CHUNK_VALUES // max(values_RC.shape[1], unknowns * unknowns))
        parts = [
            self._fit_rows(torch.from_numpy(values_RC[at : at + step]), raw[at : at + step], grid)
            for at in range(0, len(raw), step)
        ]
        return np.concatenate(parts)

    def _fit_rows(self, values_RC: torch.Tensor, raw: np.ndarray, grid: Grid) -> np.ndarray:
        factors_RSF = torch.from_numpy(grid.read_factors(raw)).double()
        rows, superblocks, kinds = factors_RSF.shape
        terms_RFSW = _terms(grid, raw, superblocks)
        width = terms_RFSW.shape[-1]
        normal = torch.zeros(rows, superblocks, kinds, superblocks, kinds, dtype=torch.float64)
        wanted_RSF = torch.zeros_like(factors_RSF)
        for block in range(superblocks):
            moments_WC = self._damped_CC[block * width : (block + 1) * width]
            for kind in range(kinds):
                seen_RC = terms_RFSW[:, kind, block] @ moments_WC
                seen_RSW = seen_RC.reshape(rows, superblocks, width)[:, block:]
                found_RSF = torch.einsum("rsw,rfsw->rsf", seen_RSW, terms_RFSW[:, :, block:])
                normal[:, block, kind, block:] = found_RSF.double()
                normal[:, block:, :, block, kind] = found_RSF.double()
                wanted_RSF[:, block, kind] = (seen_RC * values_RC).sum(-1).double()
        normal_RKK = normal.reshape(rows, superblocks * kinds, superblocks * kinds)
        # A superblock of zeros has nothing to fit, and two terms can be alike.
        level_R11 = normal_RKK.diagonal(dim1=1, dim2=2).mean(-1)[:, None, None].clamp(min=1e-30)
        normal_RKK += 1e-6 * level_R11 * torch.eye(superblocks * kinds)
        wanted_RK1 = wanted_RSF.reshape(rows, -1, 1) + 1e-6 * level_R11
        ratios_RSF = torch.linalg.solve(normal_RKK, wanted_RK1).reshape(factors_RSF.shape)
        fitted_RSF = (factors_RSF * ratios_RSF).clamp(-65504, 65504)
        made = grid.write_factors(raw, fitted_RSF.float().numpy())
        before_R, after_R = (
            self._row_errors(_terms(grid, each, superblocks), values_RC) for each in (raw, made)
        )
        return np.where((after_R < before_R).numpy()[:, None], made, raw)

    def _row_errors(self, terms_RFSW: torch.Tensor, values_RC: torch.Tensor) -> torch.Tensor:
        off_RC = terms_RFSW.sum(1).reshape(values_RC.shape) - values_RC
        return ((off_RC @ self._damped_CC) * off_RC).sum(-1)


def _terms(grid: Grid, raw: np.ndarray, superblocks: int) -> torch.Tensor:
    """Return what the factors multiply, times these, [R, F, S, W]; summed over F, the values."""
    parts = grid.take_apart(raw)
    rows, columns = parts.codes_RC.shape
    per_block = columns // parts.scale_RB.shape[1]

    def wide(each_RB: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(each_RB.copy()).repeat_interleave(per_block, dim=1)

    zero = float(grid.zero) if parts.zero_RB is None else wide(parts.zero_RB)
    terms = [(torch.from_numpy(parts.codes_RC.copy()).float() - zero) * wide(parts.scale_RB)]
    if parts.offset_RB is not None:
        terms.append(-wide(parts.offset_RB))
    return torch.stack(terms, dim=1).reshape(rows, len(terms), superblocks, -1)
