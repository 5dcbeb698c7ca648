"""The losses against plain autograd: values and gradients, at ugly sizes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from edgetune.ops import linear_loss
from edgetune.ops.dense_loss import KINDS, dense_loss_
from edgetune.ops.linear_loss import Head, linear_loss_sum
from edgetune.ops.sparse_loss import SparseTargets, sparse_loss_

SIZES = [(1, 3, 2), (5, 41, 7), (7, 401, 16), (13, 1271, 33)]  # positions, vocabulary, entries


def make_targets(positions: int, vocabulary: int, entries: int, tail: bool) -> SparseTargets:
    """Random kept entries; the second half of the first position is padding."""
    entries = min(entries, vocabulary)
    ids_PK = torch.stack([torch.randperm(vocabulary)[:entries] for _ in range(positions)])
    probs_PK = torch.rand(positions, entries)
    probs_PK[0, entries // 2 + 1 :] = 0
    ids_PK[0, entries // 2 + 1 :] = 0 if ids_PK[0, 0] else ids_PK[0, 0]
    tail_P = torch.rand(positions) * 0.4 if tail else None
    whole_P = 1 - (tail_P if tail_P is not None else torch.zeros(positions))
    return SparseTargets(
        ids_PK, probs_PK / probs_PK.sum(1, keepdim=True) * whole_P[:, None], tail_P
    )


def reference(
    logits_PV: torch.Tensor,
    labels_P: torch.Tensor,
    targets: SparseTargets,
    weight: float,
    temperature: float,
) -> torch.Tensor:
    """The same by the formula, for autograd to differentiate."""
    ce = torch.nn.functional.cross_entropy(logits_PV, labels_P, reduction="none")
    log_q_PV = (logits_PV / temperature).log_softmax(-1)
    p_PV = torch.zeros_like(logits_PV).scatter_add(1, targets.ids_PK, targets.probs_PK)
    kl = (torch.special.entr(p_PV).neg() - p_PV * log_q_PV).sum(1)
    if targets.tail_P is not None:
        other_P = (log_q_PV.exp() * (p_PV == 0)).sum(1)
        kl = kl + targets.tail_P * (targets.tail_P.log() - other_P.log())
    return (1 - weight) * ce + weight * temperature**2 * kl


@pytest.mark.parametrize("tail", [False, True], ids=["sample", "top-k"])
@pytest.mark.parametrize(("weight", "temperature"), [(1, 1), (0.8, 1), (1, 2), (0.3, 1.7)])
@pytest.mark.parametrize("size", SIZES)
def test_sparse_loss(
    size: tuple[int, int, int], weight: float, temperature: float, tail: bool
) -> None:
    positions, vocabulary, entries = size
    if tail and entries >= vocabulary:
        pytest.skip("nothing is left for a tail")
    torch.manual_seed(0)
    targets = make_targets(positions, vocabulary, entries, tail)
    logits = (3 * torch.randn(positions, vocabulary)).requires_grad_()
    labels = torch.randint(0, vocabulary, (positions,))
    wanted = reference(logits, labels, targets, weight, temperature)
    (gradient,) = torch.autograd.grad(wanted.sum(), logits)
    buffer = logits.detach().clone()
    found = sparse_loss_(buffer, labels, targets, weight, temperature)
    torch.testing.assert_close(found, wanted.detach(), rtol=2e-5, atol=1e-5)
    torch.testing.assert_close(buffer, gradient, rtol=2e-5, atol=2e-6)


def test_cross_entropy_alone() -> None:
    torch.manual_seed(0)
    logits = torch.randn(7, 401, requires_grad=True)
    labels = torch.randint(0, 401, (7,))
    wanted = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    (gradient,) = torch.autograd.grad(wanted.sum(), logits)
    buffer = logits.detach().clone()
    torch.testing.assert_close(sparse_loss_(buffer, labels, None), wanted.detach())
    torch.testing.assert_close(buffer, gradient)


def dense_reference(
    logits_PV: torch.Tensor, teacher_PV: torch.Tensor, kind: str, mix: float, temperature: float
) -> torch.Tensor:
    """The divergences by their formulas."""
    log_q = (logits_PV / temperature).log_softmax(-1)
    log_p = (teacher_PV / temperature).log_softmax(-1)
    q, p = log_q.exp(), log_p.exp()
    if kind == "forward_kl":
        each = p * (log_p - log_q)
    elif kind == "reverse_kl":
        each = q * (log_q - log_p)
    elif kind == "jsd":
        log_m = (mix * p + (1 - mix) * q).log()
        each = mix * p * (log_p - log_m) + (1 - mix) * q * (log_q - log_m)
    else:
        each = p * (log_p - (mix * p + (1 - mix) * q).log())
    return temperature**2 * each.sum(1)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 3), (5, 41), (7, 401), (3, 1271)])
def test_dense_loss(size: tuple[int, int], kind: str, temperature: float) -> None:
    torch.manual_seed(0)
    logits, teacher = (3 * torch.randn(size)).requires_grad_(), 3 * torch.randn(size)
    wanted = dense_reference(logits, teacher, kind, 0.3, temperature)
    (gradient,) = torch.autograd.grad(wanted.sum(), logits)
    buffer = logits.detach().clone()
    found = dense_loss_(buffer, teacher.clone(), kind, 0.3, temperature)
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(buffer, gradient, rtol=1e-4, atol=2e-6)


#: Logits at which probabilities underflow: a token that neither has (that only one of them has),
#: and one that is masked out.
EXTREMES = {
    "neither": ([40.0, 0.0, -300.0, -200.0], [35.0, 5.0, -200.0, -300.0]),
    "one": ([200.0, 0.0, -200.0, 1.0], [-200.0, 0.0, 200.0, 1.0]),
    "far": ([1e4, -1e4, 0.0, 5.0], [9e3, -1e4, 1.0, -9e3]),
    "masked": ([1.0, 2.0, -math.inf, 0.5], [2.0, 1.0, -math.inf, 0.5]),
}


def exact_dense(
    logits: torch.Tensor, teacher: torch.Tensor, kind: str, mix: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and gradient in float64 with an exponent range in which nothing underflows."""
    keep = (logits > -math.inf).squeeze(0)
    exact = logits[:, keep].double().requires_grad_()
    log_q, log_p = exact.log_softmax(-1), teacher[:, keep].double().log_softmax(-1)
    log_m = torch.logaddexp(log_p + math.log(mix), log_q + math.log(1 - mix))
    q, p = log_q.exp(), log_p.exp()
    loss = {
        "forward_kl": p * (log_p - log_q), "reverse_kl": q * (log_q - log_p),
        "jsd": mix * p * (log_p - log_m) + (1 - mix) * q * (log_q - log_m),
        "skewed_kl": p * (log_p - log_m),
    }[kind].sum(1)  # fmt: skip
    gradient = torch.zeros_like(logits)
    gradient[:, keep] = torch.autograd.grad(loss.sum(), exact)[0].float()
    return loss.detach().float(), gradient


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EXTREMES)
def test_dense_loss_where_probabilities_underflow(name: str, kind: str) -> None:
    logits, teacher = (torch.tensor([row]) for row in EXTREMES[name])
    wanted, gradient = exact_dense(logits, teacher, kind, 0.3)
    buffer = logits.clone()
    found = dense_loss_(buffer, teacher.clone(), kind, 0.3)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(buffer, gradient, rtol=1e-4, atol=1e-6)


def sure_logits() -> tuple[torch.Tensor, torch.Tensor, SparseTargets]:
    """Students so sure of the kept tokens that 1 − Σ q is 0 in float32, and labels and targets."""
    logits = torch.tensor([[30.0, 29.0, 3.0, 1.0, -2.0], [60.0, 10.0, 59.0, 8.0, 9.0]])
    targets = SparseTargets(
        torch.tensor([[0, 1, 0], [2, 0, 1]]),
        torch.tensor([[0.5, 0.3, 0.0], [0.4, 0.3, 0.1]]),
        torch.tensor([0.2, 0.2]),
    )
    return logits, torch.tensor([2, 0]), targets


def exact_sparse(
    logits: torch.Tensor, labels: torch.Tensor, targets: SparseTargets, weight: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition in float64, what is left for other tokens summed over them."""
    exact = logits.double().requires_grad_()
    log_q = exact.log_softmax(-1)
    share, tail = targets.probs_PK.double(), targets.tail_P
    assert tail is not None
    rest = torch.ones_like(log_q, dtype=torch.bool)
    for row, (ids, kept) in enumerate(zip(targets.ids_PK, share > 0, strict=True)):
        rest[row, ids[kept]] = False
    left = torch.where(rest, log_q, -math.inf).logsumexp(1)
    kl = -(torch.special.entr(share) + share * log_q.gather(1, targets.ids_PK)).sum(1)
    kl = kl + tail.double() * (tail.double().log() - left)
    ce = -log_q.gather(1, labels[:, None]).squeeze(1)
    loss = (1 - weight) * ce + weight * kl
    (gradient,) = torch.autograd.grad(loss.sum(), exact)
    return loss.detach().float(), gradient.float()


@pytest.mark.parametrize("weight", [1.0, 0.6])
def test_sparse_loss_of_a_student_that_leaves_nothing(weight: float) -> None:
    logits, labels, targets = sure_logits()
    wanted, gradient = exact_sparse(logits, labels, targets, weight)
    buffer = logits.clone()
    found = sparse_loss_(buffer, labels, targets, weight)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(buffer, gradient, rtol=1e-4, atol=1e-5)


def test_unknown_divergence() -> None:
    with pytest.raises(ValueError, match="forward_kl"):
        dense_loss_(torch.zeros(1, 2), torch.zeros(1, 2), "kl")


def sample_loss(labels: torch.Tensor, targets: SparseTargets) -> Callable[..., torch.Tensor]:
    """The mixed loss of some positions, as a chunk's loss."""
    return lambda logits, first, last: sparse_loss_(
        logits, labels[first:last], targets.rows(first, last), 0.8
    )


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("cap", [0.0, 5.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_linear_loss_equals_whole_logits(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, cap: float, chunk: int
) -> None:
    torch.manual_seed(0)
    positions, hidden, vocabulary = 11, 24, 401
    monkeypatch.setattr(linear_loss, "CHUNK_BYTES", 4 * vocabulary * chunk)
    targets = make_targets(positions, vocabulary, 9, False)
    labels = torch.randint(0, vocabulary, (positions,))
    leaves = [
        torch.randn(positions, hidden).to(dtype).requires_grad_(),
        torch.randn(vocabulary, hidden).to(dtype).requires_grad_(),
        torch.randn(vocabulary).to(dtype).requires_grad_(),
    ]
    head = Head(leaves[1], leaves[2], scale=0.5, cap=cap)
    found = linear_loss_sum(leaves[0], head, sample_loss(labels, targets))
    gradients = torch.autograd.grad(found * 1.75, leaves)  # an upstream gradient that is not 1

    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    logits = torch.nn.functional.linear(*exact) * 0.5
    if cap:
        logits = torch.tanh(logits / cap) * cap
    double = SparseTargets(targets.ids_PK, targets.probs_PK.double())
    wanted = reference(logits, labels, double, 0.8, 1.0).sum()
    right = torch.autograd.grad(wanted * 1.75, exact)
    fine = dtype == torch.float32
    torch.testing.assert_close(found, wanted.float(), rtol=1e-5 if fine else 5e-3, atol=1e-4)
    for gradient, true in zip(gradients, right, strict=True):
        assert gradient.dtype == dtype
        off = (gradient.double() - true).norm() / true.norm()
        assert off < (1e-5 if fine else 1e-2)


def test_linear_loss_of_a_frozen_head_and_none_at_all() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(4, 8, requires_grad=True)
    weight, labels = torch.randn(41, 8), torch.arange(4)
    loss = linear_loss_sum(
        hidden, Head(weight), lambda logits, a, b: sparse_loss_(logits, labels[a:b], None)
    )
    (gradient,) = torch.autograd.grad(loss, hidden)
    again = torch.nn.functional.cross_entropy(hidden @ weight.T, labels, reduction="sum")
    torch.testing.assert_close(gradient, torch.autograd.grad(again, hidden)[0])
    nothing = linear_loss_sum(hidden[:0], Head(weight), lambda *_: pytest.fail("no position"))
    assert nothing.item() == 0
