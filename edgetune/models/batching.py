"""Forward passes over many sequences at once.

B sequences of T tokens, D the width of hidden states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

#: Tokens of a forward pass. A streamed model is read once a pass: 4,096 are three passes for 256
#: rows, and the widest activations of 500 M parameters take 67 MB.
BATCH_TOKENS = 4096


def batch_sequences(
    sequences: Sequence[Sequence[int]], padded: bool = True
) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """Yield sequences to compute together, shortest first.

    They are padded at the end: a causal model's logits of a token do not depend on what
    follows it.

    Args:
        sequences: token ids.
        padded: if not, those together have one length.

    Yields:
        The numbers of the sequences, their ids ``[B, T]``, and which of these are no padding.
    """
    together: list[int] = []
    for number in sorted(range(len(sequences)), key=lambda one: len(sequences[one])):
        length = len(sequences[number])
        full = (len(together) + 1) * length > BATCH_TOKENS
        other = not padded and len(sequences[together[0]]) != length if together else False
        if together and (full or other):
            yield together, *_pad([sequences[one] for one in together])
            together = []
        together.append(number)
    if together:
        yield together, *_pad([sequences[one] for one in together])


def _pad(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    ids_BT = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    real_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
    for number, ids in enumerate(rows):
        ids_BT[number, : len(ids)] = torch.tensor(list(ids))
        real_BT[number, : len(ids)] = True
    return ids_BT, real_BT


def unmasked(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a causal model's inputs without a mask that only hides padding behind the tokens.

    No token looks there. With the mask torch's attention goes over all pairs of positions, and
    transformers repeats keys and values for each query head: forward and backward of [8, 512]
    tokens, 8 heads over 4, take 144 ms with it and 122 without.
    """
    mask_BT = inputs.get("attention_mask")
    if mask_BT is None or mask_BT.dim() != 2 or bool((mask_BT[:, 1:] > mask_BT[:, :-1]).any()):
        return inputs
    return {name: value for name, value in inputs.items() if name != "attention_mask"}


def device_of(model: Any) -> torch.device:
    """Return where inputs go; the weights of a streamed model are nowhere between passes."""
    found: torch.device = model.device
    return torch.device("cpu") if found.type == "meta" else found


@contextmanager
def replaced_forward(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a module compute something else while the context is open; its hooks are still called.

    What accelerate's hooks do in the module's forward, such as reading weights, is not done.
    """
    own = module.__dict__.pop("forward", None)
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own
