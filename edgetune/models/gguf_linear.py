"""Linear layers that keep a GGUF file's bytes, read as float32 whenever they are used."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from edgetune.ops import choose
from edgetune.ops.dequantize import check_packed
from edgetune.runtimes.ggml import dequantize_tensor


class GgufLinear(torch.nn.Linear):
    """A linear layer with packed weights: y = x Wᵀ + b.

    Its values are in memory while it computes, forward and backward, and at no other time.

    Args:
        packed: rows of the weight in the model's order, uint8 [out, row bytes].
        ggml_type: of the blocks, one that :mod:`edgetune.ops.dequantize` reads.
        dtype: of inputs and outputs; values are rounded to it.
        bias: [out] in that dtype, or none.
    """

    def __init__(
        self,
        packed: torch.Tensor,
        ggml_type: str,
        dtype: torch.dtype,
        bias: torch.nn.Parameter | None = None,
    ) -> None:
        torch.nn.Module.__init__(self)  # Linear's own would make a weight
        self.in_features, self.out_features = check_packed(packed, ggml_type), len(packed)
        self.weight = torch.nn.Parameter(packed, requires_grad=False)
        self.register_parameter("bias", bias)
        self.ggml_type, self.compute_dtype = ggml_type, dtype

    def values(self) -> torch.Tensor:
        """Return the weight [out, in] in the layer's dtype: ggml's float32 values, rounded."""
        return read_packed(self.weight.data, self.ggml_type, self.compute_dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = _Product.apply(x.to(self.compute_dtype), self)  # type: ignore[no-untyped-call]
        return y


def read_packed(packed: torch.Tensor, ggml_type: str, dtype: torch.dtype) -> torch.Tensor:
    """Return the values of packed rows, by ggml on a CPU and by a kernel on a GPU."""
    if packed.device.type == "cpu":
        return torch.from_numpy(dequantize_tensor(packed.numpy(), ggml_type)).to(dtype)
    choice = choose("dequantize", "auto", packed.device.type)
    values: torch.Tensor = choice.function(packed, ggml_type, dtype)
    return values


class _Product(torch.autograd.Function):
    """x Wᵀ + b, which asks for W again in the backward pass in place of keeping it."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: GgufLinear) -> torch.Tensor:
        ctx.layer = layer
        return torch.nn.functional.linear(x, layer.values(), layer.bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        return grad @ ctx.layer.values(), None
