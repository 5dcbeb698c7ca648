"""What one call of ``llama_decode`` is given."""

from __future__ import annotations

import ctypes

import numpy as np
from llama_cpp import llama_cpp as c

BATCH_TOKENS = 512  # a llama_decode call; llama.cpp's own physical batch


class Batch:
    """A ``llama_batch`` over numpy arrays: filling it is array assignment, not a Python loop."""

    def __init__(self, capacity: int) -> None:
        self.token = np.zeros(capacity, np.int32)
        self.position = np.zeros(capacity, np.int32)
        self.sequence = np.zeros(capacity, np.int32)
        self.wanted = np.zeros(capacity, np.int8)
        self._one_sequence = np.ones(capacity, np.int32)
        addresses = self.sequence.ctypes.data + 4 * np.arange(capacity, dtype=np.uintp)
        self._addresses = addresses  # C keeps a pointer into it; so must we
        self.struct = c.llama_batch(
            n_tokens=0,
            token=self.token.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            embd=None,
            pos=self.position.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            n_seq_id=self._one_sequence.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=addresses.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
            logits=self.wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )


def spans(count: int) -> list[tuple[int, int]]:
    """Return the borders of the calls that so many tokens take."""
    return [(first, min(first + BATCH_TOKENS, count)) for first in range(0, count, BATCH_TOKENS)]
