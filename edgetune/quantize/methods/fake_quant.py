"""A model trained on the grid it will be shipped on.

What the model computes with is exactly what the file will hold: before each forward pass every
matrix is rounded to its grid, the gradient passes the rounding as if it were not there (the
straight-through estimator, Bengio et al. 2013, arXiv 1308.3432, section 4), and the optimizer moves
what was rounded. That is counted in steps of the grid, so that one learning rate suits blocks of
any scale. The factors of scales and offsets stay as they were given, or are learned beside the
weights (Esser et al. 2020, arXiv 1902.08153, section 2.1), rounded to the float16 that the file
has. So codes and factors go into the file's bytes as they are.

R rows, C columns, B blocks and S superblocks a row, n weights of a block, F factors of a
superblock: of its scales, and of its offsets where it has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from edgetune.quantize.formats.ggml_blocks import Codes
from edgetune.quantize.weights import Fused, Weight


class Grid(Protocol):
    """How a type's bytes become codes and back; see :mod:`edgetune.quantize.formats`."""

    @property
    def zero(self) -> int:
        """The code whose value is minus the offset, where a block has none of its own."""

    @property
    def first(self) -> int:
        """The lowest code."""

    @property
    def last(self) -> int:
        """The highest code."""

    def take_apart(self, raw: np.ndarray) -> Codes:
        """Return the codes and scales of rows [R, row bytes]."""

    def put_together(self, raw: np.ndarray, codes_RC: np.ndarray) -> np.ndarray:
        """Return the rows ``raw`` with their codes replaced and their scales kept."""

    def read_factors(self, raw: np.ndarray) -> np.ndarray:
        """Return what multiplies each superblock's scales, then its offsets, [R, S, 1 or 2]."""

    def write_factors(self, raw: np.ndarray, factors_RSF: np.ndarray) -> np.ndarray:
        """Return the rows ``raw`` with these factors, rounded to float16; codes stay."""


#: How far from its code, in steps, a weight may start. Weights that lie next to their neighbour's
#: range are rounded to it by the first update (KL after 150 of them 1.7 times as high at 0.49).
_NEAR = 0.25


class _Values(NamedTuple):
    """Scales and offsets [R, B, 1] as a file has them."""

    scale_RB1: torch.Tensor
    offset_RB1: torch.Tensor


class _Matrix(NamedTuple):
    """One matrix [R, C] on its grid: block b of row r is columns b·C/B to (b + 1)·C/B.

    Attributes:
        zero_RB1: the code of 0, or of minus the offset.
        factors_RSF: that ``raw`` has.
        units: scales and offsets, were all factors 1.
        spans_RSF: how many steps out a superblock's outermost code and its largest offset lie.
        moves_RSF: by how many steps of the grid a superblock's outermost code, and its largest
            offset, lie further out than by the factors of ``raw``; none where those stay.
    """

    weight: Weight
    grid: Grid
    raw: np.ndarray
    zero_RB1: torch.Tensor
    factors_RSF: torch.Tensor
    units: _Values
    spans_RSF: torch.Tensor
    moves_RSF: torch.nn.Parameter | None

    def stretch(self) -> torch.Tensor:
        """Return what the factors of ``raw`` are multiplied by, [R, S, F]."""
        if self.moves_RSF is None:
            return torch.ones_like(self.factors_RSF)
        return 1 + self.moves_RSF.data / self.spans_RSF

    def factors(self) -> torch.Tensor:
        """Return the factors [R, S, F] of now, rounded to what float16 holds."""
        return (self.factors_RSF * self.stretch()).half().float()

    def values(self) -> _Values:
        """Return the scales and offsets of now."""
        return _apply(self.units, self.factors())

    def blocks(self, values: torch.Tensor) -> torch.Tensor:
        """Return values of the parameter's shape as [R, B, C / B]."""
        values_RC = values.T if self.weight.transposed else values
        return values_RC.reshape(*self.zero_RB1.shape[:2], -1)

    def shaped(self, values_RBC: torch.Tensor) -> torch.Tensor:
        """Undo :meth:`blocks`."""
        values_RC = values_RBC.reshape(len(self.raw), -1)
        return values_RC.T.contiguous() if self.weight.transposed else values_RC

    def pass_gradient(self, gradient: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Return the gradient by steps of the grid, given that by ``values``, and keep the moves'.

        A factor's is that of what it multiplies: the rounding passes it, as it passes the weights'.
        """
        gradient_RBC, (scale_RB1, offset_RB1) = self.blocks(gradient), self.values()
        if self.moves_RSF is not None:
            shape = self.factors_RSF.shape
            by_stretch = [(gradient_RBC * (self.blocks(values) + offset_RB1)).sum(-1)]
            if shape[-1] > 1:
                by_stretch.append(-(gradient_RBC.sum(-1) * offset_RB1[..., 0]))
            by_RSF = torch.stack([each.reshape(*shape[:2], -1).sum(-1) for each in by_stretch], -1)
            by_RSF = by_RSF / self.stretch() / self.spans_RSF
            kept = self.moves_RSF.grad
            self.moves_RSF.grad = by_RSF if kept is None else kept + by_RSF
        return self.shaped(gradient_RBC * scale_RB1)

    def codes(self, latent: torch.Tensor) -> torch.Tensor:
        """Return the codes [R, B, C / B] that weights in steps of the grid are rounded to."""
        return self.blocks(latent).round().clamp_(self.grid.first, self.grid.last)


class Lattice:
    """The grids of a model's matrices, whose parameters are from here on counted in their steps.

    Args:
        model: in torch, its matrices float32; each weight is put where it stands on its grid.
        weights: the matrices.
        raw: tensor name to its quantized bytes, rows in the model's own order.
        types: tensor name to a type that has a grid.
        grid: of a type.
        learn_factors: the model gets a parameter a matrix more, in ``grid_moves``: by how many
            steps of the grid its factors move the outermost code and offset of a superblock.
    """

    def __init__(
        self, model: Any, weights: Mapping[str, Weight | Fused], raw: Mapping[str, np.ndarray],
        types: Mapping[str, str], grid: Callable[[str], Grid], learn_factors: bool = False,
    ) -> None:  # fmt: skip
        self._matrices = {
            name: [
                _take_apart(part, rows, grid(kind), learn_factors)
                for part, rows in _parts(weights[name], raw[name])
            ]
            for name, kind in types.items()
        }
        every = [matrix for several in self._matrices.values() for matrix in several]
        self._parameters = {
            matrix.weight.parameter: (matrix, model.get_parameter(matrix.weight.parameter))
            for matrix in every
        }
        if learn_factors:
            # In the model, so that optimizer and checkpoints see them.
            model.grid_moves = torch.nn.ParameterDict(
                {matrix.weight.parameter.replace(".", "_"): matrix.moves_RSF for matrix in every}
            )
        self._settle()

    @property
    def parameters(self) -> set[int]:
        """The ids of the parameters that are trained: those that have a grid, and its factors."""
        every = self._parameters.values()
        moves = {id(matrix.moves_RSF) for matrix, _ in every if matrix.moves_RSF is not None}
        return {id(parameter) for _, parameter in every} | moves

    @torch.no_grad()
    def _settle(self) -> None:
        """Put in place of each weight where it stands on its grid: near the code of its bytes.

        Codes that make up for each other's errors are not the nearest ones; training goes on from
        them. Gradients are from here on those by steps of the grid.
        """
        for matrix, parameter in self._parameters.values():
            codes_RC = matrix.grid.take_apart(matrix.raw).codes_RC
            codes_RBC = torch.from_numpy(codes_RC.copy()).reshape(*matrix.zero_RB1.shape[:2], -1)
            scale_RB1, offset_RB1 = matrix.values()
            # A scale of 0 makes all codes alike; its gradient is 0 too, so they stay.
            scale_RB1 = torch.where(scale_RB1 == 0, 1.0, scale_RB1)
            values_RBC = matrix.blocks(parameter.data)
            steps_RBC = (values_RBC + offset_RB1) / scale_RB1 + matrix.zero_RB1
            near_RBC = steps_RBC.clamp(codes_RBC - _NEAR, codes_RBC + _NEAR)
            parameter.data = matrix.shaped(near_RBC)
            parameter.register_hook(
                lambda gradient, on=matrix, of=parameter: on.pass_gradient(gradient, of.data)
            )

    @contextmanager
    def applied(self, _: Any = None) -> Iterator[None]:
        """Put the values that the file has in place of the weights while the context is open."""
        latent = {name: parameter.data for name, (_, parameter) in self._parameters.items()}
        try:
            for name, steps in latent.items():
                self._parameters[name][1].data = self.round(name, steps)
            yield
        finally:
            for name, steps in latent.items():
                self._parameters[name][1].data = steps

    @torch.no_grad()
    def round(self, parameter: str, latent: torch.Tensor) -> torch.Tensor:
        """Return the values of a parameter, given in steps of the grid, that the file has."""
        matrix, _ = self._parameters[parameter]
        scale_RB1, offset_RB1 = matrix.values()
        return matrix.shaped((matrix.codes(latent) - matrix.zero_RB1) * scale_RB1 - offset_RB1)

    def write(self) -> dict[str, np.ndarray]:
        """Return each tensor's bytes with the codes and factors that its weights have now."""
        return {
            name: np.concatenate([self._write_one(matrix) for matrix in several])
            for name, several in self._matrices.items()
        }

    def _write_one(self, matrix: _Matrix) -> np.ndarray:
        codes_RBC = matrix.codes(self._parameters[matrix.weight.parameter][1].data)
        codes_RC = codes_RBC.reshape(len(matrix.raw), -1).to(torch.uint8).cpu().numpy()
        raw = matrix.grid.put_together(matrix.raw, codes_RC)
        return matrix.grid.write_factors(raw, matrix.factors().cpu().numpy())


def _parts(weight: Weight | Fused, raw: np.ndarray) -> Sequence[tuple[Weight, np.ndarray]]:
    """Return each parameter of a tensor with its rows."""
    if isinstance(weight, Weight):
        return [(weight, raw)]
    return list(zip(weight.parts, np.split(raw, np.cumsum(weight.rows)[:-1]), strict=True))


def _take_apart(weight: Weight, raw: np.ndarray, grid: Grid, learn_factors: bool) -> _Matrix:
    factors = grid.read_factors(raw)
    codes = grid.take_apart(grid.write_factors(raw, np.ones_like(factors)))
    scale_RB1 = torch.from_numpy(codes.scale_RB.copy())[..., None]
    offset_RB1, zero_RB1 = (
        torch.full_like(scale_RB1, fixed)
        if own is None
        else torch.from_numpy(own.copy())[..., None]
        for own, fixed in ((codes.offset_RB, 0.0), (codes.zero_RB, float(grid.zero)))
    )
    factors_RSF, units = torch.from_numpy(factors.copy()), _Values(scale_RB1, offset_RB1)
    moves_RSF = torch.nn.Parameter(torch.zeros_like(factors_RSF)) if learn_factors else None
    spans_RSF = _spans(_apply(units, factors_RSF), factors_RSF, grid)
    return _Matrix(weight, grid, raw, zero_RB1, factors_RSF, units, spans_RSF, moves_RSF)


def _apply(units: _Values, factors_RSF: torch.Tensor) -> _Values:
    """Return the scales and offsets that factors make of ``units``."""
    count = units.scale_RB1.shape[1] // factors_RSF.shape[1]  # blocks of a superblock
    factors_RBF = factors_RSF.repeat_interleave(count, dim=1)
    # Offsets without a factor are 0.
    return _Values(units.scale_RB1 * factors_RBF[..., :1], units.offset_RB1 * factors_RBF[..., -1:])


def _spans(values: _Values, factors_RSF: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return how many steps out a superblock's outermost code and its largest offset lie."""
    spans_RSF = torch.full_like(factors_RSF, max(grid.zero - grid.first, grid.last - grid.zero))
    if factors_RSF.shape[-1] > 1:
        largest_RS, step_RS = (
            each.abs().reshape(*factors_RSF.shape[:2], -1).amax(-1)
            for each in (values.offset_RB1, values.scale_RB1)
        )
        spans_RSF[..., 1] = torch.where(step_RS > 0, largest_RS / step_RS, 1.0).clamp(min=1.0)
    return spans_RSF
