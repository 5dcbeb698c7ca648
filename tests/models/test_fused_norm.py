"""Fused norms: equal to transformers' own, and its own wherever they would not be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from edgetune.models.fused_norm import FusedNorm, fuse_norms
from edgetune.models.load import load_base
from edgetune.ops import rms_norm as module
from edgetune.ops.rms_norm import rms_norm


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-3)])
@pytest.mark.parametrize("chunk", [1, 40, 1 << 17])
def test_output_is_that_of_transformers_and_gradient_within_rounding(
    dtype: torch.dtype, bound: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", chunk)
    torch.manual_seed(0)
    norm = Qwen2RMSNorm(20, eps=1e-5).to(dtype).requires_grad_(False)
    norm.weight.uniform_(0.5, 1.5)
    x = torch.randn(3, 5, 20).to(dtype).requires_grad_()
    upstream = torch.randn(3, 5, 20).to(dtype)
    expected = norm(x)
    (expected_gradient,) = torch.autograd.grad(expected, x, upstream)
    found = rms_norm(x, norm.weight, norm.variance_epsilon)
    (gradient,) = torch.autograd.grad(found, x, upstream)
    assert torch.equal(found, expected)
    error = (gradient.double() - expected_gradient.double()).norm()
    assert error <= bound * expected_gradient.double().norm()


def test_a_frozen_model_has_equal_logits(tiny_model: Path) -> None:
    model = load_base(tiny_model, False, "float32", "cpu").requires_grad_(False)
    ids_BT = torch.tensor([[5, 9, 17, 33]])
    expected = model(ids_BT).logits
    fuse_norms(model)
    fused = [one for one in model.modules() if isinstance(vars(one).get("forward"), FusedNorm)]
    assert len(fused) == 2 * model.config.num_hidden_layers + 1
    assert torch.equal(model(ids_BT).logits, expected)


def test_norms_of_another_formula_and_trained_ones_are_left_alone() -> None:
    gemma = GemmaRMSNorm(8).requires_grad_(False)
    trained = Qwen2RMSNorm(8)
    plain = torch.nn.RMSNorm(8).requires_grad_(False)
    fuse_norms(torch.nn.ModuleList([gemma, trained, plain]))
    assert not any("forward" in vars(one) for one in (gemma, trained, plain))


def test_a_norm_whose_weight_is_trained_later_gets_its_gradient() -> None:
    norm = Qwen2RMSNorm(8).requires_grad_(False)
    fuse_norms(torch.nn.ModuleList([norm]))
    norm.requires_grad_(True)
    norm(torch.randn(2, 8)).sum().backward()
    assert norm.weight.grad is not None
