"""Log probabilities of answers: of whole sequences, and inside TRL's trainers.

R rows, T tokens, P positions whose next token is of an answer, D hidden size.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from trl.trainer.utils import FusedCausalLMOutput

from edgetune.log import Log
from edgetune.models.batching import batch_sequences, device_of, unmasked
from edgetune.models.head import find_head, head_only_at, hidden_at
from edgetune.ops.linear_log_prob import TokenScores, linear_log_probs, log_probs_alone
from edgetune.ops.linear_loss import Head
from edgetune.train.preference.batches import Scored
from edgetune.train.preference.rows import TokenRows


def sum_log_probs(model: Any, sequences: Sequence[Scored], bar: Any = None) -> np.ndarray:
    """Return the log probability of each sequence's counted tokens, nats, float32 [R].

    Args:
        model: is asked in eval mode, without gradients.
        sequences: in any order; those of similar length are computed together.
        bar: is told of the tokens that are done.
    """
    found_R = np.zeros(len(sequences), np.float32)
    was_training, head = model.training, find_head(model)
    model.eval()
    device = device_of(model)
    try:
        for numbers, ids_RT, _ in batch_sequences([ids for ids, _ in sequences]):
            counted_RT = torch.zeros_like(ids_RT, dtype=torch.bool)
            for place, number in enumerate(numbers):
                mask = torch.as_tensor(np.asarray(sequences[number][1], bool))
                counted_RT[place, : len(mask)] = mask
            with torch.no_grad():
                inputs = {"input_ids": ids_RT.to(device)}
                scored_RT = _score(model, head, inputs, counted_RT.to(device))
            found_R[numbers] = scored_RT.sum(-1).cpu().numpy()
            if bar is not None:
                bar.update(sum(len(sequences[number][0]) for number in numbers))
    finally:
        model.train(was_training)
    return found_R


def _score(
    model: Any, head: Head | None, inputs: dict[str, torch.Tensor], counted_RT: torch.Tensor
) -> torch.Tensor:
    """Return the log probability of every counted token and 0 for the others, [R, T - 1]."""
    next_RT = counted_RT[:, 1:]
    chosen_RT = F.pad(next_RT, (0, 1))
    token_P = inputs["input_ids"][:, 1:][next_RT]
    if head is not None:
        scores_P = log_probs_alone(hidden_at(model, chosen_RT, **inputs), head, token_P)
    else:
        with head_only_at(model, chosen_RT):
            logits_PV = model(**inputs, use_cache=False).logits.float()
        scores_P = logits_PV.log_softmax(-1).gather(1, token_P[:, None])[:, 0]
    return scores_P.new_zeros(next_RT.shape).masked_scatter(next_RT, scores_P)


def score_from_hidden(model: Any) -> None:
    """Let a model that TRL gave its fused head compute it by :mod:`edgetune.ops.linear_log_prob`.

    On a GPU TRL's Triton kernel stays. On a CPU its tiles go over every position and compute the
    logits once more in the backward pass; here they are computed once, where an answer is. A head
    of no known formula, or one that is trained itself, keeps TRL's.

    Args:
        model: a causal model, with adapters or without, after a trainer of TRL was built over it.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = find_head(model)
    weights = base.get_output_embeddings().weight
    if head is None or weights.requires_grad or weights.device.type != "cpu":
        return
    trl_forward = base.forward

    @functools.wraps(trl_forward)
    def forward(*args: Any, **kwargs: Any) -> Any:
        labels = kwargs.get("labels")
        if args or labels is None or not kwargs.get("fused_lm_head") or "shift_labels" in kwargs:
            return trl_forward(*args, **kwargs)
        if kwargs.get("output_router_logits"):
            return trl_forward(*args, **kwargs)
        inputs = {name: value for name, value in kwargs.items() if name not in _NOT_INPUTS}
        return _fused_output(base, head, inputs, labels)

    base.forward = forward


_NOT_INPUTS = ("labels", "fused_lm_head", "num_items_in_batch", "use_cache")


def _fused_output(
    base: Any, head: Head, inputs: dict[str, Any], labels_RT: torch.Tensor
) -> FusedCausalLMOutput:
    next_RT = labels_RT[:, 1:] != -100
    hidden_PD = hidden_at(base, F.pad(next_RT, (0, 1)), **unmasked(inputs))
    scores = linear_log_probs(hidden_PD, head, labels_RT[:, 1:][next_RT])
    spread = TokenScores(
        *(values.new_zeros(next_RT.shape).masked_scatter(next_RT, values) for values in scores)
    )
    return FusedCausalLMOutput(
        loss=-scores.log_prob_P.sum() / next_RT.sum().clamp(min=1),
        log_probs=spread.log_prob_P,
        entropy=spread.entropy_P,
        mean_logits=spread.mean_logit_P,
        is_top1=spread.is_top_P,
        label_mask=next_RT,
    )


def score_rows(
    model: Any, rows: TokenRows, sequences: Callable[[Any], Sequence[Scored]], log: Log
) -> np.ndarray:
    """Return the log probabilities of each row's sequences, nats, float32 [rows, sequences].

    Args:
        model: is asked in eval mode.
        rows: of :mod:`edgetune.data.preference_tokens`.
        sequences: returns the sequences of a row, of every row as many.
        log: shows a bar.
    """
    every = [one for row in rows for one in sequences(row)]
    with log.progress("validation answers", sum(len(ids) for ids, _ in every)) as bar:
        return sum_log_probs(model, every, bar).reshape(len(rows), -1)
