"""Linear layers with low-rank updates, against the same written out for autograd."""

from __future__ import annotations

import pytest
import torch

from edgetune.ops.lora_linear import FrozenLinear, lora_linears

Layer = tuple[torch.Tensor, torch.Tensor | None, float, torch.Tensor, torch.Tensor]


def make_layers(dtype: torch.dtype, sizes: tuple[int, ...]) -> list[Layer]:
    torch.manual_seed(0)
    layers = []
    for number, size in enumerate(sizes):
        weight = (torch.randn(size, 40) / 6).to(dtype)
        bias = torch.randn(size).to(dtype) if number % 2 else None
        a = (torch.randn(3 + number, 40) / 6).requires_grad_()
        b = torch.randn(size, 3 + number).requires_grad_()
        layers.append((weight, bias, 0.5 + number, a, b))
    return layers


def written_out(x: torch.Tensor, layer: Layer) -> torch.Tensor:
    weight, bias, scale, a, b = layer
    update = torch.nn.functional.linear(torch.nn.functional.linear(x.float(), a), b) * scale
    return (torch.nn.functional.linear(x, weight, bias).float() + update).to(x.dtype)


def in_one(x: torch.Tensor, layers: list[Layer]) -> tuple[torch.Tensor, ...]:
    frozen = [FrozenLinear(lambda w=w: w, bias, s) for w, bias, s, _, _ in layers]  # type: ignore[misc]
    return lora_linears(x, frozen, [factor for *_, a, b in layers for factor in (a, b)])


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("sizes", [(24,), (24, 8, 17)])
def test_outputs_and_gradients_equal_those_of_autograd(
    dtype: torch.dtype, bound: float, sizes: tuple[int, ...]
) -> None:
    layers = make_layers(dtype, sizes)
    x = torch.randn(2, 5, 40).to(dtype).requires_grad_()
    upstream = [torch.randn(2, 5, size).to(dtype) for size in sizes]
    inputs = [x, *(factor for *_, a, b in layers for factor in (a, b))]

    expected = [written_out(x, layer) for layer in layers]
    found = in_one(x, layers)
    expected_gradients = torch.autograd.grad(expected, inputs, upstream)
    gradients = torch.autograd.grad(found, inputs, upstream)

    for one, other in zip((*found, *gradients), (*expected, *expected_gradients), strict=True):
        assert one.dtype == other.dtype
        error = (one.double() - other.double()).norm() / other.double().norm()
        assert error < bound


def test_an_unused_output_has_no_part_in_the_gradients() -> None:
    layers = make_layers(torch.float32, (24, 8))
    x = torch.randn(5, 40, requires_grad=True)
    _, second = in_one(x, layers)
    second.sum().backward()
    assert x.grad is not None
    kept = x.grad.clone()
    assert layers[0][4].grad is None
    assert torch.equal(layers[0][3].grad, torch.zeros_like(layers[0][3]))
    x.grad = None
    written_out(x, layers[1]).sum().backward()
    torch.testing.assert_close(kept, x.grad)


def test_only_the_input_and_its_low_rank_product_are_kept() -> None:
    layers = make_layers(torch.bfloat16, (24, 8))
    factors = {factor.data_ptr() for *_, a, b in layers for factor in (a, b)}
    x = torch.randn(5, 40).to(torch.bfloat16).requires_grad_()
    kept: dict[int, torch.Size] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.shape
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        in_one(x, layers)
    shapes = sorted(tuple(shape) for place, shape in kept.items() if place not in factors)
    assert shapes == [(5, 7), (5, 40)]
