"""Variants of a prompt: the answer to each, the loss of one expected answer after each, and KL.

P positions of the answer, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgetune.measure.quality import compare_positions
from edgetune.measure.reference import log_softmax
from edgetune.runtimes import Runtime, logits_at

#: Tokens of the expected answer that are scored: held for all variants of a row together.
ANSWER_TOKENS = 32


@dataclass(frozen=True)
class Variants:
    """One row's prompts and the answer that is right for all of them.

    Attributes:
        prompts: token ids.
        expected: token ids of the answer; empty where it is not the same for all.
        pairs: of prompts whose distributions are compared.
    """

    prompts: list[list[int]]
    expected: list[int]
    pairs: list[tuple[int, int]]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def measure_variants(
    runtime: Runtime,
    rows: Sequence[dict[str, Any]],
    max_new_tokens: int,
    stop_ids: Sequence[int],
) -> list[dict[str, Any]]:
    """Return ``answers`` (ids), ``losses`` and ``divergences`` of each row's variants.

    A loss is the mean negative log likelihood of a token of the expected answer, in nats; a
    divergence is the mean over these tokens of KL in both directions, halved, for each pair. Both
    are empty where no answer is expected of all variants.

    Args:
        runtime: the model.
        rows: what :meth:`Variants.to_json` gives.
        max_new_tokens: longest answer.
        stop_ids: what ends an answer.
    """
    if not rows:
        return []
    prompts = [prompt for row in rows for prompt in row["prompts"]]
    answers = iter(runtime.generate(prompts, max_new_tokens, stop_ids))
    found = []
    for row in rows:
        losses, divergences = _score(runtime, row)
        found.append(
            {
                "answers": [next(answers) for _ in row["prompts"]],
                "losses": losses,
                "divergences": divergences,
            }
        )
    return found


def _score(runtime: Runtime, row: dict[str, Any]) -> tuple[list[float], list[float]]:
    expected = row["expected"][:ANSWER_TOKENS]
    if not expected:
        return [], []
    sequences = [[*prompt, *expected[:-1]] for prompt in row["prompts"]]
    places = [list(range(len(ids) - len(expected), len(ids))) for ids in sequences]
    every = [log_softmax(logits_PV) for logits_PV in _whole(runtime, sequences, places)]
    tokens_P = np.array(expected)
    losses = [-float(np.take_along_axis(one, tokens_P[:, None], axis=1).mean()) for one in every]
    divergences = []
    for one, other in row["pairs"]:
        both = [compare_positions(a, b)[0].mean()
                for a, b in ((every[one], every[other]), (every[other], every[one]))]  # fmt: skip
        divergences.append(float(np.mean(both)))
    return losses, divergences


def _whole(
    runtime: Runtime, sequences: list[list[int]], places: list[list[int]]
) -> list[np.ndarray]:
    """Return float32 ``[P, V]`` of each sequence, its blocks put together."""
    blocks = logits_at(runtime, sequences, places)
    found = []
    for wanted in places:
        parts = [next(blocks)]
        while sum(map(len, parts)) < len(wanted):
            parts.append(next(blocks))
        found.append(np.concatenate(parts))
    return found
