"""Log probabilities from hidden states are those of whole logits, and so are their gradients."""

from __future__ import annotations

import pytest
import torch

from edgetune.ops import linear_log_prob
from edgetune.ops.linear_log_prob import linear_log_probs, log_probs_alone
from edgetune.ops.linear_loss import Head


def reference(hidden_PD: torch.Tensor, head: Head, token_P: torch.Tensor) -> list[torch.Tensor]:
    logits_PV = hidden_PD @ head.weight_VD.T
    if head.bias_V is not None:
        logits_PV = logits_PV + head.bias_V
    logits_PV = logits_PV * head.scale
    if head.cap:
        logits_PV = head.cap * torch.tanh(logits_PV / head.cap)
    log_PV = logits_PV.log_softmax(-1)
    own_P = log_PV.gather(1, token_P[:, None])[:, 0]
    entropy_P = -(log_PV.exp() * log_PV).sum(-1)
    return [own_P, entropy_P, logits_PV.mean(-1), logits_PV.argmax(-1) == token_P]


@pytest.mark.parametrize("chunk", [1 << 20, 3 * 4 * 50], ids=["one-chunk", "three-positions"])
@pytest.mark.parametrize(("scale", "cap"), [(1.0, 0.0), (0.5, 3.0)])
def test_scores_and_gradients_equal_those_of_whole_logits(
    scale: float, cap: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_log_prob, "CHUNK_BYTES", chunk)
    torch.manual_seed(0)
    hidden_PD, weight_VD = torch.randn(10, 8), torch.randn(50, 8)
    head = Head(weight_VD, torch.randn(50), scale, cap)
    token_P = torch.randint(50, (10,))
    upstream_P = torch.randn(10)
    ours_PD, theirs_PD = (hidden_PD.clone().requires_grad_() for _ in range(2))
    found = linear_log_probs(ours_PD, head, token_P)
    wanted = reference(theirs_PD, head, token_P)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    (found.log_prob_P * upstream_P).sum().backward()
    (wanted[0] * upstream_P).sum().backward()
    torch.testing.assert_close(ours_PD.grad, theirs_PD.grad, atol=1e-5, rtol=1e-5)
    alone_P = log_probs_alone(hidden_PD, head, token_P)
    torch.testing.assert_close(alone_P, wanted[0].detach(), atol=1e-5, rtol=1e-5)


def test_a_trained_head_is_refused() -> None:
    head = Head(torch.randn(5, 4, requires_grad=True))
    with pytest.raises(ValueError, match="not computed here"):
        linear_log_probs(torch.randn(2, 4), head, torch.tensor([1, 2]))


def test_no_position_gives_no_score() -> None:
    hidden_PD = torch.zeros(0, 4, requires_grad=True)
    found = linear_log_probs(hidden_PD, Head(torch.randn(5, 4)), torch.zeros(0, dtype=torch.long))
    assert found.log_prob_P.shape == (0,)
    found.log_prob_P.sum().backward()
