"""Quality: what a model says of the tokens its reference saw, and whether its answers are right.

Shapes: T positions of a row, P of them trained (those whose token an answer holds), V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgetune.errors import EdgetuneError
from edgetune.measure.reference import Keeper, ReferenceLogProbs, log_softmax
from edgetune.measure.statistics import Estimate, bits_per_byte, percentile, ratio_of_sums
from edgetune.runtimes import CHUNK_SCORES, Runtime, logits_at, logits_of


class Encoded(Protocol):
    """A row's tokens and which of them count; what :mod:`edgetune.data` makes of a row."""

    @property
    def ids(self) -> Sequence[int]: ...
    @property
    def trained(self) -> Sequence[int]: ...


@dataclass
class Comparison:
    """KL and agreement with one reference, per position and per row."""

    divergences: list[np.ndarray] = field(default_factory=list)
    agreements: list[int] = field(default_factory=list)


@dataclass
class Scores:
    """Teacher-forced scores of some rows.

    Attributes:
        nll_sums: negative log likelihood of each row's trained tokens, in nats.
        counts: how many those are.
        comparisons: by the name of the reference.
    """

    nll_sums: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    comparisons: dict[str, Comparison] = field(default_factory=dict)

    @property
    def positions(self) -> int:
        """How many positions were scored."""
        return sum(self.counts)

    def row_losses(self) -> list[float]:
        """Return the mean negative log likelihood of each row's trained tokens, in nats."""
        pairs = zip(self.nll_sums, self.counts, strict=True)
        return [nll / count for nll, count in pairs if count]

    def perplexity(self) -> Estimate:
        """Return exp of the mean negative log likelihood of a trained token."""
        nll = ratio_of_sums(self.nll_sums, self.counts)
        ends = None if nll.ci95 is None else (math.exp(nll.ci95[0]), math.exp(nll.ci95[1]))
        return Estimate(math.exp(nll.value), nll.n, ends)

    def bits_per_byte(self, sizes: Sequence[int]) -> Estimate | None:
        """Return bits of the rows' trained tokens per byte of their text; None of no bytes.

        Args:
            sizes: UTF-8 bytes of each scored row's text.
        """
        return bits_per_byte(self.nll_sums, sizes) if any(sizes) else None

    def mean_kl(self, reference: str) -> Estimate:
        """Return the mean of KL(reference || model) over positions, in nats."""
        rows = self.comparisons[reference].divergences
        return ratio_of_sums([float(row.sum()) for row in rows], self.counts)

    def kl_p99(self, reference: str) -> Estimate:
        """Return the KL that 99 % of the positions stay below, in nats."""
        every = np.concatenate(self.comparisons[reference].divergences)
        return Estimate(percentile(every, 99), len(self.counts))

    def top1_agreement(self, reference: str) -> Estimate:
        """Return the fraction of positions with the reference's most likely token."""
        return ratio_of_sums(self.comparisons[reference].agreements, self.counts)


def score_rows(
    runtime: Runtime,
    rows: Sequence[Encoded],
    references: dict[str, ReferenceLogProbs] | None = None,
    keep: Path | None = None,
) -> Scores:
    """Score the trained tokens of ``rows`` with a runtime.

    Args:
        runtime: the model.
        rows: encoded rows; one without a trained token after its first is skipped.
        references: by name, log probabilities of the same rows.
        keep: file that gets this model's own log probabilities, for others to be compared with.

    Raises:
        EdgetuneError: logits that are not finite, or another vocabulary than the reference's.
    """
    references = references or {}
    scores = Scores(comparisons={name: Comparison() for name in references})
    targets = [_targets(row) for row in rows]
    done, total = 0, sum(map(len, targets))
    prefixes = [
        row.ids[: trained[-1]] for row, trained in zip(rows, targets, strict=True) if trained
    ]
    every = logits_of(runtime, prefixes)
    with Keeper(keep, runtime, total) if keep else nullcontext() as keeper:
        for number, (row, trained) in enumerate(zip(rows, targets, strict=True)):
            if not trained:
                continue
            logits_PV = next(every)[np.array(trained) - 1]
            if not np.isfinite(logits_PV).all():
                raise EdgetuneError(
                    "a logit is not finite", where=f"row {number} in {runtime.name}"
                )
            if keeper and not done:
                keeper.begin(logits_PV.shape[1])
            _check_references(references, total, logits_PV.shape[1])
            _score_row(scores, logits_PV, np.array(row.ids)[trained], references, done, keeper)
            if keeper:
                keeper.add_row(row.ids[: trained[-1]], [target - 1 for target in trained])
            done += len(trained)
    return scores


def _score_row(
    scores: Scores,
    logits_PV: np.ndarray,
    tokens_P: np.ndarray,
    references: dict[str, ReferenceLogProbs],
    offset: int,
    keeper: Keeper | None,
) -> None:
    """Add one row's numbers, some positions at a time so that memory stays bounded."""
    positions, vocabulary = logits_PV.shape
    step = max(1, CHUNK_SCORES // vocabulary)
    nll = 0.0
    divergences: dict[str, list[np.ndarray]] = {name: [] for name in references}
    agreements = dict.fromkeys(references, 0)
    for first in range(0, positions, step):
        chunk = slice(first, first + step)
        model = log_softmax(logits_PV[chunk])
        nll -= float(np.take_along_axis(model, tokens_P[chunk, None], axis=1).sum())
        if keeper:
            keeper.add(model)
        for name, reference in references.items():
            wanted = reference.read(offset + first, offset + first + len(model))
            divergence_P, agree_P = compare_positions(wanted, model)
            divergences[name].append(divergence_P)
            agreements[name] += int(agree_P.sum())
    scores.nll_sums.append(nll)
    scores.counts.append(positions)
    for name, comparison in scores.comparisons.items():
        comparison.divergences.append(np.concatenate(divergences[name]))
        comparison.agreements.append(agreements[name])


def compare_runtimes(reference: Runtime, model: Runtime, rows: Sequence[Encoded]) -> dict[str, Any]:
    """Compare two loaded models on the trained tokens of ``rows``.

    Returns:
        ``kl_answer_tokens`` (mean KL(reference || model), nats), ``top1_answer_tokens``,
        ``positions``.

    Raises:
        EdgetuneError: their vocabularies differ, or no token is trained.
    """
    divergence, agreements, positions = 0.0, 0, 0
    asked = [(row.ids, targets) for row in rows if (targets := _targets(row))]
    prefixes = [ids[: targets[-1]] for ids, targets in asked]
    places = [[target - 1 for target in targets] for _, targets in asked]
    blocks = (logits_at(one, prefixes, places) for one in (reference, model))
    for wanted_PV, model_PV in zip(*blocks, strict=True):
        if wanted_PV.shape != model_PV.shape:
            raise EdgetuneError(
                f"vocabularies differ: {wanted_PV.shape[1]} and {model_PV.shape[1]} tokens",
                where=f"{reference.name} against {model.name}",
            )
        step = max(1, CHUNK_SCORES // model_PV.shape[1])
        for first in range(0, len(model_PV), step):
            chunk = slice(first, first + step)
            divergence_P, agree_P = compare_positions(
                log_softmax(wanted_PV[chunk]), log_softmax(model_PV[chunk])
            )
            divergence += float(divergence_P.sum())
            agreements += int(agree_P.sum())
        positions += len(model_PV)
    if positions == 0:
        raise EdgetuneError("no trained token in the rows to compare on")
    return {
        "kl_answer_tokens": divergence / positions,
        "top1_answer_tokens": agreements / positions,
        "positions": positions,
    }


def compare_positions(wanted_PV: np.ndarray, model_PV: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return KL(wanted || model) and top-token agreement, ``[P]`` each, of log probabilities."""
    divergence_P = (np.exp(wanted_PV) * (wanted_PV - model_PV)).sum(axis=1)
    # KL is never negative; what float64 leaves below zero (1e-16) is rounding.
    return np.maximum(divergence_P, 0.0), wanted_PV.argmax(axis=1) == model_PV.argmax(axis=1)


def _targets(row: Encoded) -> list[int]:
    """Return where the trained tokens are. Nothing predicts the first, so it never counts."""
    return [t for t in range(1, len(row.ids)) if row.trained[t]]


def exact_answers(answers: Sequence[str], expected: Sequence[str]) -> list[bool]:
    """Return whether each answer is the expected one, outer white space aside."""
    pairs = zip(answers, expected, strict=True)
    return [answer.strip() == wanted.strip() for answer, wanted in pairs]


def _check_references(
    references: dict[str, ReferenceLogProbs], positions: int, vocabulary: int
) -> None:
    for name, reference in references.items():
        if reference.shape != (positions, vocabulary):
            raise EdgetuneError(
                f"its positions and vocabulary are {positions} x {vocabulary}, "
                f"those of '{name}' {reference.shape[0]} x {reference.shape[1]}",
                where=str(reference.path),
                hint="only models of one tokenizer and vocabulary can be compared",
            )
