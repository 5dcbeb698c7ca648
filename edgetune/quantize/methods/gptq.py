"""Rounding in which a column's error is made up for by the columns after it.

GPTQ (Frantar et al. 2022, arXiv 2210.17323, section 3 and algorithm 1) on a grid that is given:
with the scales and mins of round-to-nearest, quants are chosen again, column by column, and what a
column's rounding does to the output is spread over the columns that are still open. Then the
float16 scales of each row's super-blocks are fitted to these quants by least squares, all at once.
It needs the Hessian of the inputs, and seconds where training takes minutes.

R rows, C columns, B blocks and S super-blocks a row, F super-block scales a super-block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from edgetune.models.layers import find_layers
from edgetune.models.parameters import own_names
from edgetune.quantize.formats.codec import BlockCodec
from edgetune.quantize.weights import Fused, Weight

#: Share of the mean second moment that is added to each column's: 0.01 of the paper follows 10,000
#: calibration tokens too closely (KL on test rows 5 to 16 % higher).
DAMPING = 0.1
_GROUP = 128  # columns whose errors are passed on together
_CHUNK_ROWS = 4096  # whose quants are chosen together: what changes of them stays in the cache
_CHUNK_VALUES = 1 << 22  # of rows whose super-block scales are fitted together


class Reader(NamedTuple):
    """A linear module that multiplies with a matrix, and the layer it is in.

    The layer is the one after the last for what is in none.
    """

    module: str
    layer: int


def find_readers(model: Any, weights: Sequence[Weight | Fused]) -> dict[str, Reader]:
    """Return tensor name to the module whose inputs its Hessian is made of.

    A lookup has none; that of a tied table is the head.

    Args:
        model: in torch.
        weights: the matrices; one that is fused has one input.
    """
    from transformers.pytorch_utils import Conv1D

    layers = find_layers(model)
    layer_of = {id(one): number for number, layer in enumerate(layers) for one in layer.modules()}
    names = own_names(model)
    readers = {
        names[f"{name}.weight"]: Reader(name, layer_of.get(id(module), len(layers)))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
    }
    owned = {weight.tensor: names[weight.parts[0].parameter] for weight in weights}
    return {tensor: readers[name] for tensor, name in owned.items() if name in readers}


class Gptq:
    """The inputs of one matrix, and rounding that knows them.

    Args:
        hessian_CC: the mean outer product of its inputs.
    """

    def __init__(self, hessian_CC: np.ndarray) -> None:
        self._hessian_CC = hessian_CC
        # One name: of 14,336 columns (Llama 8B) each matrix in float64 takes 1.6 GB.
        matrix_CC = torch.from_numpy(hessian_CC).double()
        # Columns whose inputs are all 0 would make the matrix singular.
        level = max(float(matrix_CC.diagonal().mean()), 1e-12)
        matrix_CC.diagonal().add_(DAMPING * level)
        self._damped_hessian_CC = matrix_CC.float()
        matrix_CC = torch.linalg.cholesky(matrix_CC)
        matrix_CC = torch.cholesky_inverse(matrix_CC)
        self._cholesky_CC = torch.linalg.cholesky(matrix_CC, upper=True).float()

    def fits(self, hessian_CC: np.ndarray) -> bool:
        """Whether these inputs are the same: q, k and v have one."""
        return np.array_equal(self._hessian_CC, hessian_CC)

    def round(self, values_RC: np.ndarray, raw: np.ndarray, codec: BlockCodec) -> np.ndarray:
        """Return the rows with error-compensating quants and fitted super-block scales.

        Args:
            values_RC: float32, what was rounded.
            raw: its bytes by plain rounding, uint8 [R, row bytes].
            codec: of their type.
        """
        return self.fit_scales(values_RC, self.choose_quants(values_RC, raw, codec), codec)

    def correct_weights(self, values_RC: np.ndarray, cross_CC: np.ndarray) -> np.ndarray:
        """Return the rows that give from these inputs what ``values_RC`` gave from others.

        By least squares, damped as the Hessian is: W + W·L·H⁻¹.

        Args:
            values_RC: float32.
            cross_CC: mean over tokens of (other input − input) · inputᵀ.
        """
        wanted_CR = torch.from_numpy(values_RC @ cross_CC).double().T
        factor_CC = torch.linalg.cholesky(self._damped_hessian_CC.double())
        added_RC: np.ndarray = torch.cholesky_solve(wanted_CR, factor_CC).T.float().numpy()
        return np.ascontiguousarray(values_RC + added_RC)

    def error(self, off_RC: np.ndarray) -> float:
        """Return the mean squared error of the outputs, summed over rows, of weights so far off.

        Args:
            off_RC: float32, rounded values less true ones.
        """
        return float(((off_RC @ self._hessian_CC) * off_RC).sum(dtype=np.float64))

    @torch.no_grad()
    def choose_quants(
        self, values_RC: np.ndarray, raw: np.ndarray, codec: BlockCodec
    ) -> np.ndarray:
        """Return the rows ``raw`` with quants that compensate each other's errors."""
        parts = codec.unpack(raw)

        def turned(each_RB: np.ndarray | None, fixed: float = 0.0) -> torch.Tensor:
            if each_RB is None:
                return torch.full(parts.scale_RB.T.shape, fixed)
            return torch.from_numpy(each_RB.T.astype(np.float32, order="C"))

        # Columns lie together, as they are gone through.
        scale_BR, min_BR = turned(parts.scale_RB), turned(parts.min_RB)
        zero_BR = turned(parts.zero_RB, codec.zero)
        quants_CR, left_CR = turned(parts.quants_RC), turned(values_RC)
        for start in range(0, quants_CR.shape[1], _CHUNK_ROWS):
            rows = slice(start, start + _CHUNK_ROWS)
            self._choose(
                quants_CR[:, rows], left_CR[:, rows].clone(), scale_BR[:, rows], min_BR[:, rows],
                zero_BR[:, rows], codec,
            )  # fmt: skip
        return codec.pack(raw, quants_CR.T.to(torch.uint8).contiguous().numpy())

    def _choose(
        self, quants_CR: torch.Tensor, left_CR: torch.Tensor, scale_BR: torch.Tensor,
        min_BR: torch.Tensor, zero_BR: torch.Tensor, codec: BlockCodec,
    ) -> None:  # fmt: skip
        """Overwrite ``quants_CR`` with the quants of some rows; ``left_CR`` is consumed."""
        columns, cholesky_CC = len(left_CR), self._cholesky_CC
        per_block = columns // len(scale_BR)
        for start in range(0, columns, _GROUP):
            end = min(start + _GROUP, columns)
            errors_GR = torch.empty(end - start, left_CR.shape[1])
            for column in range(start, end):
                block = column // per_block
                scale_R, min_R, zero_R = scale_BR[block], min_BR[block], zero_BR[block]
                if column % per_block == 0:
                    still_R = scale_R == 0  # nothing to choose
                    divisor_R = torch.where(still_R, 1.0, scale_R)
                steps_R = (left_CR[column] + min_R) / divisor_R
                nearest_R = (steps_R + zero_R).round_().clamp_(codec.first, codec.last)
                quant_R = torch.where(still_R, quants_CR[column], nearest_R)
                quants_CR[column] = quant_R
                missed_R = left_CR[column] - ((quant_R - zero_R) * scale_R - min_R)
                error_R = errors_GR[column - start] = missed_R / cholesky_CC[column, column]
                left_CR[column:end].addr_(cholesky_CC[column, column:end], error_R, alpha=-1)
            left_CR[end:].addmm_(cholesky_CC[start:end, end:].T, errors_GR, alpha=-1)

    @torch.no_grad()
    def fit_scales(self, values_RC: np.ndarray, raw: np.ndarray, codec: BlockCodec) -> np.ndarray:
        """Return the rows ``raw`` with super-block scales fitted to their quants by least squares.

        A row whose error does not fall, float16 being what it is, stays as it was.
        """
        unknowns = codec.read_super_scales(raw[:1]).size
        step = max(1, _CHUNK_VALUES // max(values_RC.shape[1], unknowns * unknowns))
        parts = [
            self._fit_rows(torch.from_numpy(values_RC[at : at + step]), raw[at : at + step], codec)
            for at in range(0, len(raw), step)
        ]
        return np.concatenate(parts)

    def _fit_rows(self, values_RC: torch.Tensor, raw: np.ndarray, codec: BlockCodec) -> np.ndarray:
        scales_RSF = torch.from_numpy(codec.read_super_scales(raw)).double()
        rows, superblocks, kinds = scales_RSF.shape
        terms_RFSW = _terms(codec, raw, superblocks)
        width = terms_RFSW.shape[-1]
        normal = torch.zeros(rows, superblocks, kinds, superblocks, kinds, dtype=torch.float64)
        wanted_RSF = torch.zeros_like(scales_RSF)
        for block in range(superblocks):
            hessian_WC = self._damped_hessian_CC[block * width : (block + 1) * width]
            for kind in range(kinds):
                seen_RC = terms_RFSW[:, kind, block] @ hessian_WC
                seen_RSW = seen_RC.reshape(rows, superblocks, width)[:, block:]
                found_RSF = torch.einsum("rsw,rfsw->rsf", seen_RSW, terms_RFSW[:, :, block:])
                normal[:, block, kind, block:] = found_RSF.double()
                normal[:, block:, :, block, kind] = found_RSF.double()
                wanted_RSF[:, block, kind] = (seen_RC * values_RC).sum(-1).double()
        normal_RKK = normal.reshape(rows, superblocks * kinds, superblocks * kinds)
        # A super-block of zeros has nothing to fit, and two terms can be alike.
        level_R11 = normal_RKK.diagonal(dim1=1, dim2=2).mean(-1)[:, None, None].clamp(min=1e-30)
        normal_RKK += 1e-6 * level_R11 * torch.eye(superblocks * kinds)
        wanted_RK1 = wanted_RSF.reshape(rows, -1, 1) + 1e-6 * level_R11
        ratios_RSF = torch.linalg.solve(normal_RKK, wanted_RK1).reshape(scales_RSF.shape)
        fitted_RSF = (scales_RSF * ratios_RSF).clamp(-65504, 65504)
        made = codec.write_super_scales(raw, fitted_RSF.float().numpy())
        before_R, after_R = (
            self._row_errors(_terms(codec, each, superblocks), values_RC) for each in (raw, made)
        )
        return np.where((after_R < before_R).numpy()[:, None], made, raw)

    def _row_errors(self, terms_RFSW: torch.Tensor, values_RC: torch.Tensor) -> torch.Tensor:
        off_RC = terms_RFSW.sum(1).reshape(values_RC.shape) - values_RC
        return ((off_RC @ self._damped_hessian_CC) * off_RC).sum(-1)


def _terms(codec: BlockCodec, raw: np.ndarray, superblocks: int) -> torch.Tensor:
    """Return each super-block scale times what it multiplies, [R, F, S, W]; their sum: values."""
    parts = codec.unpack(raw)
    rows, columns = parts.quants_RC.shape
    per_block = columns // parts.scale_RB.shape[1]

    def wide(each_RB: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(each_RB.copy()).repeat_interleave(per_block, dim=1)

    zero = float(codec.zero) if parts.zero_RB is None else wide(parts.zero_RB)
    terms = [(torch.from_numpy(parts.quants_RC.copy()).float() - zero) * wide(parts.scale_RB)]
    if parts.min_RB is not None:
        terms.append(-wide(parts.min_RB))
    return torch.stack(terms, dim=1).reshape(rows, len(terms), superblocks, -1)
