"""Logits of what may follow one context in torch, the context computed once."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from edgetune.runtimes import count_together


def logits_after(
    model: Any, device: str, context: Sequence[int], branches: Sequence[Sequence[int]]
) -> Iterator[np.ndarray]:
    """Yield float32 ``[P, V]``; see :func:`edgetune.runtimes.likelihood.logits_after`."""
    shared = DynamicCache(config=model.config.get_text_config())
    logits_PV = _feed(model, device, context, shared, 1)
    yield logits_PV
    step = count_together(logits_PV.shape[1])
    for number, branch in enumerate(branches):
        # Not every kind of cache can be cut back to the context; each can be copied.
        cache = copy.deepcopy(shared) if number + 1 < len(branches) else shared
        for first in range(0, len(branch), step):
            yield _feed(model, device, branch[first : first + step], cache, 0)


@torch.inference_mode()
def _feed(model: Any, device: str, ids: Sequence[int], cache: Any, last: int) -> np.ndarray:
    """Feed tokens after those in the cache; return the logits of the last ones, 0 is all."""
    ids_BT = torch.tensor([list(ids)], device=device)
    output = model(input_ids=ids_BT, past_key_values=cache, use_cache=True, logits_to_keep=last)
    logits_PV: np.ndarray = output.logits[0].float().cpu().numpy()
    return logits_PV
