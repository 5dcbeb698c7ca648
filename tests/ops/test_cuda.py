"""The kernels on a GPU: chosen there by themselves, right at real vocabularies, without races."""

from __future__ import annotations

import pytest
import torch

from edgetune import ops
from tests.ops.test_losses import make_targets

pytestmark = pytest.mark.gpu


def test_auto_takes_the_kernels(device: str) -> None:
    for op in ops.OPS:
        found = ops.choose(op, "auto", device)
        assert found.impl == ("triton" if device == "cuda" else "torch"), found.why
        assert ops.choose(op, "torch", device).impl == "torch"


@pytest.mark.parametrize("form", ["labels", "sample", "top-k", "jsd", "skewed_kl"])
def test_results_do_not_move_and_are_the_definitions(form: str, device: str) -> None:
    positions, vocabulary = (96, 128_256) if device == "cuda" else (3, 4099)
    torch.manual_seed(0)
    logits = 3 * torch.randn(positions, vocabulary, device=device)
    teacher = 3 * torch.randn(positions, vocabulary, device=device)
    labels = torch.randint(0, vocabulary, (positions,), device=device)
    targets = None
    if form in ("sample", "top-k"):
        made = make_targets(positions, vocabulary, 20, form == "top-k")
        targets = type(made)(*(None if x is None else x.to(device) for x in made))
    op = "dense_loss" if form in ("jsd", "skewed_kl") else "sparse_loss"
    found = []
    for impl in ("torch", *["triton"] * (8 if device == "cuda" else 2)):
        buffer = logits.clone()
        run = ops.choose(op, impl, device).function
        if op == "dense_loss":
            loss = run(buffer, teacher.clone(), form, 0.3)
        else:
            loss = run(buffer, labels, targets, 0.7, 1.3)
        found.append((loss, buffer))
    wanted, first = found[:2]
    torch.testing.assert_close(first[0], wanted[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first[1], wanted[1], rtol=1e-4, atol=2e-6)
    for loss, gradient in found[2:]:
        assert torch.equal(loss, first[0]) and torch.equal(gradient, first[1]), "a race"
