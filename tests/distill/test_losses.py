"""The sampled loss: its value and gradient against the dense definition."""

from __future__ import annotations

import torch

from edgetune.distill.losses import cross_entropy_sum, mixed_sum, sampled_kl_sum


def test_equals_dense_kl_when_the_sample_is_the_distribution() -> None:
    torch.manual_seed(0)
    logits = torch.randn(7, 41, requires_grad=True)
    p = torch.randn(7, 41).softmax(-1)
    ids = torch.arange(41).expand(7, 41)
    loss = sampled_kl_sum(logits, ids, p)
    dense = torch.nn.functional.kl_div(logits.log_softmax(-1), p, reduction="sum")
    torch.testing.assert_close(loss, dense)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, logits.softmax(-1) - p)


def test_padding_adds_nothing() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 11)
    ids, share = torch.tensor([[4], [0], [10]]), torch.ones(3, 1)
    padded_ids = torch.cat([ids, torch.zeros(3, 2, dtype=torch.long)], 1)
    padded_share = torch.cat([share, torch.zeros(3, 2)], 1)
    torch.testing.assert_close(
        sampled_kl_sum(logits, ids, share), sampled_kl_sum(logits, padded_ids, padded_share)
    )
    # A teacher that is sure of one token asks for what cross-entropy asks for.
    torch.testing.assert_close(
        sampled_kl_sum(logits, ids, share), cross_entropy_sum(logits, ids.squeeze(1))
    )


def test_bfloat16_logits_are_summed_in_float32() -> None:
    logits = torch.randn(5, 13).bfloat16()
    labels = torch.arange(5)
    assert cross_entropy_sum(logits, labels).dtype == torch.float32
    assert sampled_kl_sum(logits, labels[:, None], torch.ones(5, 1)).dtype == torch.float32


def test_the_mix_is_the_two_losses_weighed() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 17, requires_grad=True)
    labels, ids = torch.arange(6), torch.randint(0, 17, (6, 3))
    share = torch.rand(6, 3)
    mixed = mixed_sum(logits, labels, ids, share, 0.8)
    parts = 0.2 * cross_entropy_sum(logits, labels) + 0.8 * sampled_kl_sum(logits, ids, share)
    torch.testing.assert_close(mixed, parts)
    torch.testing.assert_close(*(torch.autograd.grad(x, logits)[0] for x in (mixed, parts)))
