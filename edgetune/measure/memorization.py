"""How far a model remembers canaries: the exposure of inserted secrets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgetune.measure.statistics import Estimate, t95


def expected_exposure(candidates: int) -> float:
    """Return the mean exposure, in bits, of secrets that were never seen.

    Their rank among so many candidates is any with equal probability.
    """
    return math.log2(candidates) - math.log2(math.factorial(candidates)) / candidates


def measure_exposure(nll_NC: Sequence[Sequence[float]]) -> Estimate:
    """Return the mean exposure of canaries, in bits, with the interval over them.

    Exposure is log2 of the number of candidates less log2 of the secret's rank among them, by
    likelihood; ties count as half. Source: Carlini et al. 2019 (arXiv 1802.08232), definition 5.

    Args:
        nll_NC: negative log likelihoods of each canary's candidates, the inserted one first.
    """
    exposures = []
    for inserted, *controls in nll_NC:
        better = sum(one < inserted for one in controls)
        equal = sum(one == inserted for one in controls)
        exposures.append(math.log2(1 + len(controls)) - math.log2(1 + better + equal / 2))
    count = len(exposures)
    mean = float(np.mean(exposures))
    if count < 2:
        return Estimate(mean, count)
    half = t95(count - 1) * float(np.std(exposures, ddof=1)) / math.sqrt(count)
    return Estimate(mean, count, (mean - half, mean + half))
