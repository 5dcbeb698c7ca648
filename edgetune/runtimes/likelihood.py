"""Log likelihoods of continuations after contexts: label scoring, multiple choice, perplexity.

A context is computed once for all its continuations where the runtime can (``logits_after``).
Shapes: P positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edgetune.errors import EdgetuneError
from edgetune.runtimes import CHUNK_SCORES, Runtime, count_together

#: Ids of a context and of what follows it.
Request = tuple[Sequence[int], Sequence[int]]
#: Log probability of the continuation in nats; whether greedy decoding would produce it.
Likelihood = tuple[float, bool]


def score_continuations(runtime: Runtime, requests: Sequence[Request]) -> list[Likelihood]:
    """Return the log likelihood of each continuation given its context, in the requests' order.

    Logits of at most :func:`edgetune.runtimes.count_together` positions are held at a time where
    the runtime has ``logits_after``; else those of one request.

    Args:
        runtime: the model.
        requests: ids of context and continuation, both with at least one token. Nothing is added
            or cut off: together they must fit the model's context.

    Raises:
        ValueError: an empty context or continuation.
        EdgetuneError: logits that are not finite.
    """
    by_context: dict[tuple[int, ...], list[int]] = {}
    for number, (context, continuation) in enumerate(requests):
        if not context or not continuation:
            raise ValueError(f"request {number} has an empty context or continuation")
        by_context.setdefault(tuple(context), []).append(number)
    found: dict[int, Likelihood] = {}
    # Contexts with a common beginning come together: a runtime may go on from what it has.
    for context, numbers in sorted(by_context.items()):
        continuations = [tuple(requests[number][1]) for number in numbers]
        likelihoods = _score_group(runtime, context, continuations)
        found.update(zip(numbers, likelihoods, strict=True))
    return [found[number] for number in range(len(requests))]


def _score_group(
    runtime: Runtime, context: tuple[int, ...], continuations: list[tuple[int, ...]]
) -> list[Likelihood]:
    """Score the continuations of one context.

    Continuations that differ in their last token alone are one branch: their logits are the same.
    """
    branches = list(dict.fromkeys(one[:-1] for one in continuations if len(one) > 1))
    # Row 0 is after the context; then come the rows of each branch.
    starts = dict(zip(branches, np.cumsum([1, *map(len, branches)]).tolist(), strict=False))
    rows: list[int] = []
    tokens: list[int] = []
    owners: list[int] = []
    for owner, continuation in enumerate(continuations):
        start = starts.get(continuation[:-1], 1)
        rows += [0, *range(start, start + len(continuation) - 1)]
        tokens += continuation
        owners += [owner] * len(continuation)
    order = np.argsort(rows, kind="stable")
    rows_N, tokens_N, owners_N = (np.array(one)[order] for one in (rows, tokens, owners))
    sums, greedy = np.zeros(len(continuations)), np.ones(len(continuations), bool)
    first = 0
    for logits_PV in logits_after(runtime, context, branches):
        here = (rows_N >= first) & (rows_N < first + len(logits_PV))
        places_N, wanted_N = rows_N[here] - first, tokens_N[here]
        log_probs_N, best_P = _log_probs(logits_PV, places_N, wanted_N)
        np.add.at(sums, owners_N[here], log_probs_N)
        np.logical_and.at(greedy, owners_N[here], best_P[places_N] == wanted_N)
        first += len(logits_PV)
    if not np.isfinite(sums).all():
        raise EdgetuneError("a logit is not finite", where=f"a continuation in {runtime.name}")
    return [(float(total), bool(best)) for total, best in zip(sums, greedy, strict=True)]


def logits_after(
    runtime: Runtime, context: Sequence[int], branches: Sequence[Sequence[int]]
) -> Iterator[np.ndarray]:
    """Yield float32 ``[P, V]``: the logits after a context, then after each token of each branch.

    They come in blocks, in order; in all ``1 + sum(map(len, branches))`` rows.
    """
    shared = getattr(runtime, "logits_after", None)
    if shared:
        yield from shared(context, branches)
        return
    for number, branch in enumerate(branches or [()]):
        first = len(context) - (number == 0)
        logits_PV = runtime.logits([*context, *branch])[first:]
        step = count_together(logits_PV.shape[1])
        yield from (logits_PV[at : at + step] for at in range(0, len(logits_PV), step))


def _log_probs(
    logits_PV: np.ndarray, places_N: np.ndarray, tokens_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return log probabilities of tokens at places ``[N]``, and the best token of each row."""
    normalizers_P = np.empty(len(logits_PV))
    step = max(1, CHUNK_SCORES // logits_PV.shape[1])
    for first in range(0, len(logits_PV), step):
        chunk = logits_PV[first : first + step].astype(np.float64)
        peaks_P = chunk.max(axis=1)
        chunk -= peaks_P[:, None]
        normalizers_P[first : first + step] = peaks_P + np.log(np.exp(chunk, out=chunk).sum(axis=1))
    chosen_N = logits_PV[places_N, tokens_N].astype(np.float64)
    return chosen_N - normalizers_P[places_N], logits_PV.argmax(axis=1)
