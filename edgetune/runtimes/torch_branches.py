"""Logits of what may follow one context in torch, the context computed once."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from edgetune.runtimes import count_together
from edgetune.runtimes.branches import count_copies, group_branches


def logits_after(
    model: Any, device: str, context: Sequence[int], branches: Sequence[Sequence[int]]
) -> Iterator[np.ndarray]:
    """Yield float32 ``[P, V]``; see :func:`edgetune.runtimes.likelihood.logits_after`.

    Short branches are a batch, each after a copy of the context's cache.
    """
    shared = DynamicCache(config=model.config.get_text_config())
    (logits_PV,) = _feed(model, device, [context], shared, 1)
    yield logits_PV
    step = count_together(logits_PV.shape[1])
    # Keys and values can be repeated for a batch; a recurrent state has a form of its own.
    plain = {type(layer) for layer in shared.layers} <= {DynamicLayer, DynamicSlidingWindowLayer}
    together = count_copies(len(context), branches) if plain else 1
    left = len(branches)
    for group in group_branches(branches, step, together):
        left -= len(group)
        # Not every kind of cache can be cut back to the context; each can be copied.
        cache = copy.deepcopy(shared) if left else shared
        if len(group) > 1:
            cache.batch_repeat_interleave(len(group))
            logits_BPV = _feed(model, device, group, cache, 0)
            yield from (one[: len(branch)] for one, branch in zip(logits_BPV, group, strict=True))
            continue
        for first in range(0, len(group[0]), step):
            yield _feed(model, device, [group[0][first : first + step]], cache, 0)[0]


@torch.inference_mode()
def _feed(
    model: Any, device: str, sequences: Sequence[Sequence[int]], cache: Any, last: int
) -> np.ndarray:
    """Feed tokens after those in the cache; return the logits ``[B, P, V]`` of the last ones.

    Shorter sequences are filled up behind, which nothing before sees. 0 is all tokens.
    """
    length = max(map(len, sequences))
    ids_BT = torch.tensor([[*ids, *[0] * (length - len(ids))] for ids in sequences], device=device)
    output = model(input_ids=ids_BT, past_key_values=cache, use_cache=True, logits_to_keep=last)
    logits_BPV: np.ndarray = output.logits.float().cpu().numpy()
    return logits_BPV
