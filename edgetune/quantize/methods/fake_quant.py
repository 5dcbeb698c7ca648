"""Fake quantization: a model that computes with exactly the values its file will hold.

Before each forward pass every matrix is rounded to its type, the gradient passes the rounding
unchanged (straight-through estimator: Bengio et al. 2013, arXiv 1308.3432, section 4), and the
optimizer updates the unrounded weights. These are counted in quantization steps, so that one
learning rate suits blocks of any scale. Super-block scales are fixed, or learned with the weights
(LSQ: Esser et al. 2020, arXiv 1902.08153, section 2.1) as the float16 that the file has. So quants
and super-block scales go into the file's bytes without a second rounding.

R rows, C columns, B blocks and S super-blocks per row, n weights of a block, F super-block scales:
``d``, and ``dmin`` where the type has mins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from edgetune.quantize.formats.codec import BlockCodec
from edgetune.quantize.weights import Fused, Weight

#: How far from its quant, in steps, a weight may start. Weights that lie next to their neighbour's
#: range are rounded to it by the first update (KL after 150 of them 1.7 times as high at 0.49).
_NEAR = 0.25


class _Values(NamedTuple):
    """Scales and mins [R, B, 1] as a file has them."""

    scale_RB1: torch.Tensor
    min_RB1: torch.Tensor


class _Matrix(NamedTuple):
    """One matrix [R, C] on its codec: block b of row r is columns b·C/B to (b + 1)·C/B.

    Attributes:
        zero_RB1: the quant of 0, or of minus the min.
        scales_RSF: that ``raw`` has.
        units: scales and mins, were all super-block scales 1.
        spans_RSF: how many steps out a super-block's outermost quant and its largest min lie.
        moves_RSF: by how many quantization steps a super-block's outermost quant, and its largest
            min, lie further out than by the super-block scales of ``raw``; none where those stay.
    """

    weight: Weight
    codec: BlockCodec
    raw: np.ndarray
    zero_RB1: torch.Tensor
    scales_RSF: torch.Tensor
    units: _Values
    spans_RSF: torch.Tensor
    moves_RSF: torch.nn.Parameter | None

    def stretch(self) -> torch.Tensor:
        """Return what the super-block scales of ``raw`` are multiplied by, [R, S, F]."""
        if self.moves_RSF is None:
            return torch.ones_like(self.scales_RSF)
        return 1 + self.moves_RSF.data / self.spans_RSF

    def super_scales(self) -> torch.Tensor:
        """Return the super-block scales [R, S, F] of now, rounded to what float16 holds."""
        return (self.scales_RSF * self.stretch()).half().float()

    def values(self) -> _Values:
        """Return the scales and mins of now."""
        return _apply(self.units, self.super_scales())

    def blocks(self, values: torch.Tensor) -> torch.Tensor:
        """Return values of the parameter's shape as [R, B, C / B]."""
        values_RC = values.T if self.weight.transposed else values
        return values_RC.reshape(*self.zero_RB1.shape[:2], -1)

    def shaped(self, values_RBC: torch.Tensor) -> torch.Tensor:
        """Undo :meth:`blocks`."""
        values_RC = values_RBC.reshape(len(self.raw), -1)
        return values_RC.T.contiguous() if self.weight.transposed else values_RC

    def pass_gradient(self, gradient: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Return the gradient by quantization steps, given that by ``values``; add the moves'.

        A super-block scale's is that of what it multiplies, straight through the rounding.
        """
        gradient_RBC, (scale_RB1, min_RB1) = self.blocks(gradient), self.values()
        if self.moves_RSF is not None:
            shape = self.scales_RSF.shape
            by_stretch = [(gradient_RBC * (self.blocks(values) + min_RB1)).sum(-1)]
            if shape[-1] > 1:
                by_stretch.append(-(gradient_RBC.sum(-1) * min_RB1[..., 0]))
            by_RSF = torch.stack([each.reshape(*shape[:2], -1).sum(-1) for each in by_stretch], -1)
            by_RSF = by_RSF / self.stretch() / self.spans_RSF
            kept = self.moves_RSF.grad
            self.moves_RSF.grad = by_RSF if kept is None else kept + by_RSF
        return self.shaped(gradient_RBC * scale_RB1)

    def quants(self, latent: torch.Tensor) -> torch.Tensor:
        """Return the quants [R, B, C / B] that weights in quantization steps are rounded to."""
        return self.blocks(latent).round().clamp_(self.codec.first, self.codec.last)


class FakeQuantized:
    """The grids of a model's matrices, whose parameters are from here on counted in their steps.

    Args:
        model: in torch, its matrices float32; each weight is put where it stands on its codec.
        weights: the matrices.
        raw: tensor name to its quantized bytes, rows in the model's own order.
        types: tensor name to a type that has a codec.
        codec: of a type.
        learn_scales: the model gets one more parameter per matrix, in ``grid_moves``: by how many
            quantization steps its super-block scales move a super-block's outermost quant and min.
    """

    def __init__(
        self, model: Any, weights: Mapping[str, Weight | Fused], raw: Mapping[str, np.ndarray],
        types: Mapping[str, str], codec: Callable[[str], BlockCodec], learn_scales: bool = False,
    ) -> None:  # fmt: skip
        self._matrices = {
            name: [
                _unpack(part, rows, codec(kind), learn_scales)
                for part, rows in _parts(weights[name], raw[name])
            ]
            for name, kind in types.items()
        }
        every = [matrix for several in self._matrices.values() for matrix in several]
        self._parameters = {
            matrix.weight.parameter: (matrix, model.get_parameter(matrix.weight.parameter))
            for matrix in every
        }
        if learn_scales:
            # In the model, so that optimizer and checkpoints see them.
            model.grid_moves = torch.nn.ParameterDict(
                {matrix.weight.parameter.replace(".", "_"): matrix.moves_RSF for matrix in every}
            )
        self._settle()

    @property
    def parameters(self) -> set[int]:
        """The ids of the trained parameters: the matrices, and their super-block scales."""
        every = self._parameters.values()
        moves = {id(matrix.moves_RSF) for matrix, _ in every if matrix.moves_RSF is not None}
        return {id(parameter) for _, parameter in every} | moves

    @torch.no_grad()
    def _settle(self) -> None:
        """Put in place of each weight where it stands on its codec: near the quant of its bytes.

        Unpacked that compensate each other's errors are not the nearest ones; training goes on from
        them. Gradients are from here on those by steps of the codec.
        """
        for matrix, parameter in self._parameters.values():
            quants_RC = matrix.codec.unpack(matrix.raw).quants_RC
            quants_RBC = torch.from_numpy(quants_RC.copy()).reshape(*matrix.zero_RB1.shape[:2], -1)
            scale_RB1, min_RB1 = matrix.values()
            # A scale of 0 makes all quants alike; its gradient is 0 too, so they stay.
            scale_RB1 = torch.where(scale_RB1 == 0, 1.0, scale_RB1)
            values_RBC = matrix.blocks(parameter.data)
            steps_RBC = (values_RBC + min_RB1) / scale_RB1 + matrix.zero_RB1
            near_RBC = steps_RBC.clamp(quants_RBC - _NEAR, quants_RBC + _NEAR)
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
        """Return the values of a parameter, given in steps of the codec, that the file has."""
        matrix, _ = self._parameters[parameter]
        scale_RB1, min_RB1 = matrix.values()
        return matrix.shaped((matrix.quants(latent) - matrix.zero_RB1) * scale_RB1 - min_RB1)

    def write(self) -> dict[str, np.ndarray]:
        """Return each tensor's bytes with its current quants and super-block scales."""
        return {
            name: np.concatenate([self._write_one(matrix) for matrix in several])
            for name, several in self._matrices.items()
        }

    def _write_one(self, matrix: _Matrix) -> np.ndarray:
        quants_RBC = matrix.quants(self._parameters[matrix.weight.parameter][1].data)
        quants_RC = quants_RBC.reshape(len(matrix.raw), -1).to(torch.uint8).cpu().numpy()
        raw = matrix.codec.pack(matrix.raw, quants_RC)
        return matrix.codec.write_super_scales(raw, matrix.super_scales().cpu().numpy())


def _parts(weight: Weight | Fused, raw: np.ndarray) -> Sequence[tuple[Weight, np.ndarray]]:
    """Return each parameter of a tensor with its rows."""
    if isinstance(weight, Weight):
        return [(weight, raw)]
    return list(zip(weight.parts, np.split(raw, np.cumsum(weight.rows)[:-1]), strict=True))


def _unpack(weight: Weight, raw: np.ndarray, codec: BlockCodec, learn_scales: bool) -> _Matrix:
    super_scales = codec.read_super_scales(raw)
    quants = codec.unpack(codec.write_super_scales(raw, np.ones_like(super_scales)))
    scale_RB1 = torch.from_numpy(quants.scale_RB.copy())[..., None]
    min_RB1, zero_RB1 = (
        torch.full_like(scale_RB1, fixed)
        if own is None
        else torch.from_numpy(own.copy())[..., None]
        for own, fixed in ((quants.min_RB, 0.0), (quants.zero_RB, float(codec.zero)))
    )
    scales_RSF, units = torch.from_numpy(super_scales.copy()), _Values(scale_RB1, min_RB1)
    moves_RSF = torch.nn.Parameter(torch.zeros_like(scales_RSF)) if learn_scales else None
    spans_RSF = _spans(_apply(units, scales_RSF), scales_RSF, codec)
    return _Matrix(weight, codec, raw, zero_RB1, scales_RSF, units, spans_RSF, moves_RSF)


def _apply(units: _Values, scales_RSF: torch.Tensor) -> _Values:
    """Return the scales and mins that super-block scales make of ``units``."""
    count = units.scale_RB1.shape[1] // scales_RSF.shape[1]  # blocks of a super-block
    scales_RBF = scales_RSF.repeat_interleave(count, dim=1)
    # Offsets without a super-block scale are 0.
    return _Values(units.scale_RB1 * scales_RBF[..., :1], units.min_RB1 * scales_RBF[..., -1:])


def _spans(values: _Values, scales_RSF: torch.Tensor, codec: BlockCodec) -> torch.Tensor:
    """Return how many steps out a super-block's outermost quant and its largest min lie."""
    spans_RSF = torch.full_like(scales_RSF, max(codec.zero - codec.first, codec.last - codec.zero))
    if scales_RSF.shape[-1] > 1:
        largest_RS, step_RS = (
            each.abs().reshape(*scales_RSF.shape[:2], -1).amax(-1)
            for each in (values.min_RB1, values.scale_RB1)
        )
        spans_RSF[..., 1] = torch.where(step_RS > 0, largest_RS / step_RS, 1.0).clamp(min=1.0)
    return spans_RSF
