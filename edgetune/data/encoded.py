"""One row as tokens."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row as tokens, in 5 bytes per token: lists of ints take 44, and rows go into millions.

    Attributes:
        ids: token ids, at most ``max_length``; ``array("i")``, of any sequence of ints.
        trained: for each id 1 if the model is trained to predict it, else 0; ``array("B")``.
        truncated: whether the end was cut off to fit.
    """

    ids: Sequence[int]
    trained: Sequence[int]
    truncated: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", _as_array("i", self.ids))
        object.__setattr__(self, "trained", _as_array("B", self.trained))


def _as_array(code: str, values: Sequence[int]) -> array[int]:
    """Return an array of ``values``; one of numpy's own dtype is copied as bytes."""
    if isinstance(values, np.ndarray) and values.dtype.str[1:] == {"i": "i4", "B": "u1"}[code]:
        return array(code, values.tobytes())
    return array(code, values)
