"""KL divergence, agreement and perplexity of two models on the same token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetune.compare import probes
from edgetune.compare.loaded import LoadedModel, attempt
from edgetune.data.rows import Row
from edgetune.errors import EdgetuneError, InputError
from edgetune.measure.quality import compare_positions
from edgetune.measure.reference import log_softmax
from edgetune.measure.statistics import Estimate, ratio_of_sums

CHUNK_SCORES = 4_000_000  # logits turned into probabilities at a time: 32 MB in float64
ANSWER_TOKENS = 64  # a greedy answer that has not ended by then has not ended


@dataclass(frozen=True)
class TokenizedText:
    """Token ids of one text; every position but the first is scored."""

    ids: list[int]


@dataclass(frozen=True)
class GreedyAnswers:
    """Greedy continuations of both models, each up to one of its end ids.

    Attributes:
        prompts: ids of each prompt.
        of_reference: ids of the reference's answer to each, without the end id.
        of_candidate: those of the candidate.
    """

    prompts: Sequence[list[int]] = ()
    of_reference: Sequence[list[int]] = ()
    of_candidate: Sequence[list[int]] = ()

    def ended(self) -> tuple[int, int]:
        """Return how many answers of each came to an end."""
        ended = [
            sum(len(one) < ANSWER_TOKENS for one in each)
            for each in (self.of_reference, self.of_candidate)
        ]
        return ended[0], ended[1]


def generate_pair(
    reference: LoadedModel, candidate: LoadedModel, prompts: Sequence[list[int]]
) -> GreedyAnswers:
    """Return the greedy answers of both models, each generated in its runtime."""
    if not prompts:
        return GreedyAnswers()
    of_reference, of_candidate = (
        model.runtime.generate(prompts, ANSWER_TOKENS, model.ends)
        for model in (reference, candidate)
    )
    return GreedyAnswers(prompts, of_reference, of_candidate)


@dataclass(frozen=True)
class LogitComparison:
    """Teacher-forced scores; KL(reference || candidate) in nats per token.

    ``perplexity_ratio`` is exp of the mean difference of the negative log likelihoods, with its
    95 % interval over texts: 1.01: the candidate is one percent worse.
    """

    positions: int
    texts: int
    kl_mean: float
    kl_p50: float
    kl_p99: float
    kl_max: float
    top1: float
    perplexity_reference: float
    perplexity_candidate: float
    nll_difference: Estimate
    vocabulary: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        difference = self.nll_difference
        interval = difference.ci95 or (difference.value, difference.value)
        return {
            "positions": self.positions, "texts": self.texts, "vocabulary": self.vocabulary,
            "kl_mean": self.kl_mean, "kl_p50": self.kl_p50, "kl_p99": self.kl_p99,
            "kl_max": self.kl_max, "top1_agreement": self.top1,
            "perplexity_reference": self.perplexity_reference,
            "perplexity_candidate": self.perplexity_candidate,
            "perplexity_ratio": float(np.exp(difference.value)),
            "perplexity_ratio_ci95": [float(np.exp(end)) for end in interval],
        }  # fmt: skip


def select_texts(
    reference: LoadedModel, rows: Sequence[Row], answers: GreedyAnswers, tokens: int
) -> list[TokenizedText]:
    """Return the token ids to evaluate on, at most ``tokens`` of them.

    The user's rows, rendered and tokenized as the reference does; without rows the built-in
    prose and the reference's own greedy answers, which lie where it works.
    """
    found: list[list[int]] = []
    if rows:
        for row in rows:
            if row.text is not None:
                found.append(reference.tokenize(row.text))
                continue
            turns = [{"role": m.role, "content": m.content} for m in row.messages[:-1]]
            found.append(
                reference.tokenize(reference.render(turns))
                + reference.tokenize(row.answer)
                + reference.ends[:1]
            )
    else:
        # A probe that the model's vocabulary cannot spell says nothing of its weights.
        found += [ids for text in probes.PROSE if (ids := attempt(reference.tokenize, text)[0])]
        own = zip(answers.prompts, answers.of_reference, strict=True)
        found += [[*prompt, *answer] for prompt, answer in own]
    evaluated, left = [], tokens
    for ids in found:
        if left < 2:
            break
        if len(ids) > 1:
            evaluated.append(TokenizedText(ids[:left]))
            left -= len(ids[:left])
    if not evaluated:
        raise InputError("no text to evaluate the weights on", hint="give --data FILE")
    return evaluated


def compare_logits(
    reference: LoadedModel, candidate: LoadedModel, rows: Sequence[TokenizedText]
) -> LogitComparison:
    """Score every text with both models.

    Vocabularies may be padded to different sizes: the common part is compared, renormalised.

    Raises:
        EdgetuneError: a logit that is not finite.
    """
    divergences, agreements = [], 0
    nll_reference: list[float] = []
    nll_candidate: list[float] = []
    size = 0
    for number, row in enumerate(rows):
        logits_reference, logits_candidate = (
            reference.logits(row.ids[:-1]),
            candidate.logits(row.ids[:-1]),
        )
        size = min(logits_reference.shape[1], logits_candidate.shape[1])
        for model, logits in ((reference, logits_reference), (candidate, logits_candidate)):
            if not np.isfinite(logits).all():
                raise EdgetuneError(
                    f"a logit is not finite in text {number}", where=model.subject.spec
                )
        targets = np.array(row.ids[1:])
        step = max(1, CHUNK_SCORES // size)
        sums = [0.0, 0.0]
        for first in range(0, len(targets), step):
            chunk = slice(first, first + step)
            at = targets[chunk, None]
            scores = [
                log_softmax(logits[chunk, :size]) for logits in (logits_reference, logits_candidate)
            ]
            for side_number, each in enumerate(scores):
                sums[side_number] -= float(np.take_along_axis(each, at, axis=1).sum())
            divergence_P, agree_P = compare_positions(scores[0], scores[1])
            divergences.append(divergence_P)
            agreements += int(agree_P.sum())
        nll_reference.append(sums[0])
        nll_candidate.append(sums[1])
    every = np.concatenate(divergences)
    counts = [len(row.ids) - 1 for row in rows]
    return LogitComparison(
        positions=len(every),
        texts=len(rows),
        kl_mean=float(every.mean()),
        kl_p50=float(np.percentile(every, 50)),
        kl_p99=float(np.percentile(every, 99)),
        kl_max=float(every.max()),
        top1=agreements / len(every),
        perplexity_reference=float(np.exp(sum(nll_reference) / sum(counts))),
        perplexity_candidate=float(np.exp(sum(nll_candidate) / sum(counts))),
        nll_difference=ratio_of_sums(np.subtract(nll_candidate, nll_reference).tolist(), counts),
        vocabulary=size,
    )


def compare_greedy(
    reference: LoadedModel, candidate: LoadedModel, answers: GreedyAnswers
) -> dict[str, Any]:
    """Return where greedy answers first part: the earliest position, and how many never do."""
    if not answers.prompts:
        return {"greedy_prompts": 0}
    pairs = zip(answers.of_reference, answers.of_candidate, strict=True)
    first = [_parting(_cut(one, candidate.ends), _cut(two, reference.ends)) for one, two in pairs]
    parted = [at for at in first if at is not None]
    return {
        "greedy_prompts": len(first),
        "greedy_equal": len(first) - len(parted),
        "first_differing_greedy_token": min(parted, default=None),
    }


def _cut(answer: Sequence[int], ends: Sequence[int]) -> Sequence[int]:
    """Return the answer up to the other model's end: where one stops is not a matter of weights."""
    return answer[: next((at for at, token in enumerate(answer) if token in ends), None)]


def _parting(one: Sequence[int], two: Sequence[int]) -> int | None:
    """Return the first position at which one answer says or ends what the other does not."""
    for at, (x, y) in enumerate(zip(one, two, strict=False)):
        if x != y:
            return at
    return None if len(one) == len(two) else min(len(one), len(two))
