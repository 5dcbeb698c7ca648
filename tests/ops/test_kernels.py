"""The Triton kernels against their definitions, under the interpreter or on a GPU."""

from __future__ import annotations

import pytest
import torch

from edgetune import ops
from edgetune.errors import InputError
from edgetune.ops.dense_loss import KINDS
from edgetune.ops.linear_loss import Head, linear_loss_sum
from edgetune.ops.sparse_loss import SparseTargets
from tests.ops.test_losses import (
    EXTREMES,
    SIZES,
    exact_dense,
    exact_sparse,
    make_targets,
    sure_logits,
)

pytest.importorskip("triton", reason="triton is not installed")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks a row, so that the edges between them are tried."""
    import edgetune_kernels.dense_loss as dense
    import edgetune_kernels.sparse_loss as sparse

    monkeypatch.setattr(dense, "BLOCK_V", 256)
    monkeypatch.setattr(sparse, "BLOCK_V", 256)


def both(op: str) -> tuple[ops.Choice, ops.Choice]:
    """The definition and the kernel."""
    return ops.choose(op, "torch", DEVICE), ops.choose(op, "triton", DEVICE)


@pytest.mark.parametrize("form", ["labels alone", "sample", "top-k"])
@pytest.mark.parametrize(("weight", "temperature"), [(1.0, 1.0), (0.8, 1.0), (0.3, 1.7)])
@pytest.mark.parametrize("size", SIZES)
def test_sparse_loss(
    size: tuple[int, int, int], weight: float, temperature: float, form: str
) -> None:
    positions, vocabulary, entries = size
    torch.manual_seed(0)
    targets = None
    if form != "labels alone":
        targets = make_targets(positions, vocabulary, min(entries, vocabulary - 1), form == "top-k")
        targets = type(targets)(*(None if x is None else x.to(DEVICE) for x in targets))
    logits = 3 * torch.randn(positions, vocabulary, device=DEVICE)
    labels = torch.randint(0, vocabulary, (positions,), device=DEVICE)
    right, wrong = logits.clone(), logits.clone()
    definition, kernel = both("sparse_loss")
    wanted = definition.function(right, labels, targets, weight, temperature)
    found = kernel.function(wrong, labels, targets, weight, temperature)
    torch.testing.assert_close(found, wanted, rtol=2e-5, atol=1e-5)
    torch.testing.assert_close(wrong, right, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 3), (5, 41), (7, 401), (3, 1271)])
def test_dense_loss(size: tuple[int, int], kind: str, temperature: float) -> None:
    torch.manual_seed(0)
    logits, teacher = (3 * torch.randn(size, device=DEVICE) for _ in range(2))
    right, wrong = logits.clone(), logits.clone()
    definition, kernel = both("dense_loss")
    wanted = definition.function(right, teacher.clone(), kind, 0.3, temperature)
    found = kernel.function(wrong, teacher.clone(), kind, 0.3, temperature)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(wrong, right, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EXTREMES)
def test_dense_loss_where_probabilities_underflow(name: str, kind: str) -> None:
    logits, teacher = (torch.tensor([row]) for row in EXTREMES[name])
    wanted, gradient = exact_dense(logits, teacher, kind, 0.3)
    buffer = logits.to(DEVICE)
    found = both("dense_loss")[1].function(buffer, teacher.to(DEVICE), kind, 0.3)
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(buffer.cpu(), gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weight", [1.0, 0.6])
def test_sparse_loss_of_a_student_that_leaves_nothing(weight: float) -> None:
    logits, labels, targets = sure_logits()
    wanted, gradient = exact_sparse(logits, labels, targets, weight)
    buffer = logits.to(DEVICE)
    there = SparseTargets(*(None if x is None else x.to(DEVICE) for x in targets))
    found = both("sparse_loss")[1].function(buffer, labels.to(DEVICE), there, weight)
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(buffer.cpu(), gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_inside_the_linear_loss(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 401, (9,), device=DEVICE)
    targets = make_targets(9, 401, 7, False)
    targets = type(targets)(*(None if x is None else x.to(DEVICE) for x in targets))
    found = []
    for choice in both("sparse_loss"):
        torch.manual_seed(1)
        hidden = torch.randn(9, 24, device=DEVICE).to(dtype).requires_grad_()
        weight = torch.randn(401, 24, device=DEVICE).to(dtype).requires_grad_()
        loss = linear_loss_sum(
            hidden, Head(weight),
            lambda logits, a, b, run=choice.function: run(
                logits, labels[a:b], targets.rows(a, b), 0.8
            ),
        )  # fmt: skip
        found.append((loss, *torch.autograd.grad(loss / 3, [hidden, weight])))
    for wanted, got in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_choice_is_told_and_a_kernel_that_cannot_run_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert ops.choose("sparse_loss", "auto", "cpu").impl == "torch"
    assert ops.choose("sparse_loss", "auto", "cpu").why == "no CUDA device"
    with pytest.raises(InputError, match="no CUDA device"):
        ops.choose("sparse_loss", "triton", "cpu")
    with pytest.raises(InputError, match="did you mean 'triton'"):
        ops.choose("sparse_loss", "tritn", "cpu")
