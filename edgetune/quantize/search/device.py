"""From a budget of memory or time to the types of a file: real files, run on this machine.

Neither grows with a file's bytes alone. llama.cpp copies Q4_0, Q4_K, IQ4_NL and Q2_K into another
order as it loads them (AVX-512: the embedded base takes 80.6 MB in Q4_K, 78.2 in Q6_K, which is
2.5 MB longer), and decodes IQ3_S at half the speed of Q4_K. So each type gets a price, from one
file that has it everywhere; the mix of the lowest KL for a sum of prices is chosen exactly; and
that sum is bisected by running the mixes. Prices only propose: what was measured decides.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from edgetune.errors import GateFailed
from edgetune.log import Log, bytes_text
from edgetune.measure.footprint import Footprint
from edgetune.quantize.search.budget import MEASURED, Budget
from edgetune.quantize.search.knapsack import Option, assign_types
from edgetune.quantize.search.sensitivity import Allocation, Prices, Search

#: (types of every tensor of some files, how often) to what each file took, a run each.
Measure = Callable[[Sequence[Mapping[str, str]], int], list[list[Footprint]]]

PRICE_RUNS = 2  # of each type's own file, there and back, so that a slow drift cancels
BISECTIONS = 6  # of the sum of prices
TRIAL_RUNS = {"ram": 1, "tpot": 3}  # of each mix; a peak differs by 0.1 % from run to run
FINALISTS = 3  # measured again, by turns, before one is picked
FINAL_RUNS = 3
#: Over the budget, up to which a mix may yet meet it when measured again.
NEAR = {"ram": 1.001, "tpot": 1.1}
#: The pick keeps a little more memory free than peaks differ by, so that it meets its budget again.
ROOM = {"ram": 0.9975, "tpot": 1.0}


@dataclass
class Trial:
    """A mix of types that was written and run.

    Attributes:
        found: its types and KL.
        cost: bytes or nanoseconds as first measured.
        runs: what was measured last.
    """

    found: Allocation
    cost: int
    runs: list[Footprint] = field(default_factory=list)


class Device:
    """Measures what files take on this machine, and searches types by it.

    Args:
        search: its sensitivities estimated.
        fixed: types of the tensors that are not searched.
        measure: writes files and runs them.
        log: where bars go.
    """

    def __init__(
        self, search: Search, fixed: Mapping[str, str], measure: Measure, log: Log
    ) -> None:
        self._search, self._fixed, self._measure, self._log = search, fixed, measure, log

    @cached_property
    def uniform(self) -> dict[str, list[Footprint]]:
        """What a file takes that has one type wherever rows hold it, and the smallest elsewhere."""
        mixes = self._uniform_mixes
        self._log.say(f"running {len(mixes)} files, one a type, for what each type takes here")
        runs = self._measure([{**self._fixed, **mix} for mix in mixes.values()], PRICE_RUNS)
        return dict(zip(mixes, runs, strict=True))

    @property
    def _uniform_mixes(self) -> dict[str, dict[str, str]]:
        sensitivities, size = self._search.sensitivities, self._search.candidates.size
        kinds = dict.fromkeys(kind for several in sensitivities.values() for kind in several)
        least = {
            name: min(several, key=lambda kind, name=name: size(name, kind))  # type: ignore[misc]
            for name, several in sensitivities.items()
        }
        return {
            kind: {
                name: kind if kind in sensitivities[name] else least[name] for name in sensitivities
            }
            for kind in kinds
        }

    def prices(self, kind: str) -> Prices:
        """Return what each type of a tensor costs: bytes of memory or nanoseconds a token.

        A tensor's part of a cost is its part of the weights, so a sum of costs is what a file
        of these types is expected to take. A table that is only looked up costs less than that.
        """
        mixes = self._uniform_mixes
        counts = {name: math.prod(s) for name, s in self._search.candidates.shapes.items()}
        total = sum(counts[name] for name in self._search.sensitivities)
        shares = np.array(
            [
                [sum(counts[n] for n, one in mix.items() if one == each) / total for each in mixes]
                for mix in mixes.values()
            ]
        )
        costs = [cost_of(kind, self.uniform[each]) for each in mixes]
        whole = dict(zip(mixes, np.linalg.lstsq(shares, costs)[0].clip(min=0), strict=True))
        return {
            name: {each: round(whole[each] * counts[name] / total) for each in several}
            for name, several in self._search.sensitivities.items()
        }

    def meet(
        self, budget: Budget, known: Mapping[str, Allocation]
    ) -> tuple[Allocation, dict[str, Any]]:
        """Return the mix of the lowest KL found whose file meets a budget, and what it takes.

        Args:
            budget: one of :data:`~edgetune.quantize.search.budget.MEASURED`.
            known: mixes that were measured.

        Raises:
            GateFailed: no file meets it; the message says by how much.
        """
        assert budget.kind in MEASURED
        assert budget.value is not None
        limit = budget.value * (1 if budget.kind == "ram" else 1e9)
        prices = self.prices(budget.kind)
        options = self._search.options(prices)
        low = sum(min(one.bytes for one in several) for several in options.values())
        high = sum(max(one.bytes for one in several) for several in options.values())
        tried: dict[str, Trial] = {}
        if self._try(_types(assign_types(options, high)), budget.kind, tried).cost > limit:
            smallest = self._try(_types(assign_types(options, low)), budget.kind, tried)
            if smallest.cost > limit:
                raise _failure(budget, limit, smallest)
            self._bisect(options, low, high, limit, budget.kind, tried)
            self._exchange(prices, limit, budget.kind, tried, known)
        trial = self._confirm(budget, limit, list(tried.values()))
        return trial.found, _describe(budget, trial, len(tried))

    def _try(self, types: Mapping[str, str], kind: str, tried: dict[str, Trial]) -> Trial:
        key = " ".join(f"{name}={one}" for name, one in sorted(types.items()))
        if key not in tried:
            (runs,) = self._measure([{**self._fixed, **types}], TRIAL_RUNS[kind])
            tried[key] = Trial(self._search.measure(types), cost_of(kind, runs), runs)
        return tried[key]

    def _bisect(
        self, options: Mapping[str, Sequence[Option]], low: int, high: int, limit: float,
        kind: str, tried: dict[str, Trial],
    ) -> None:  # fmt: skip
        """Try sums of prices until what is tried takes what is allowed."""
        with self._log.progress("trial files", BISECTIONS) as bar:
            for _ in range(BISECTIONS):
                middle = (low + high) // 2
                trial = self._try(_types(assign_types(options, middle)), kind, tried)
                if trial.cost <= limit:
                    low = middle
                else:
                    high = middle
                bar.update(1, now=_text(kind, trial.cost))

    def _exchange(
        self, prices: Prices, limit: float, kind: str, tried: dict[str, Trial],
        known: Mapping[str, Allocation],
    ) -> None:  # fmt: skip
        """Try what measured exchanges make of the best mix that meets the budget, at its price."""

        def price(types: Mapping[str, str]) -> int:
            return sum(prices[name][one] for name, one in types.items())

        meeting = [trial.found for trial in tried.values() if trial.cost <= limit]
        best = min(meeting, key=lambda found: found.kl_measured)
        spent = price(best.types)
        rivals = [best, *(one for one in known.values() if price(one.types) <= spent)]
        start = min(rivals, key=lambda found: found.kl_measured)
        refined = self._search.best_for_bytes(spent, start.types, prices)
        self._try(refined.types, kind, tried)

    def _confirm(self, budget: Budget, limit: float, trials: Sequence[Trial]) -> Trial:
        """Return the trial of the lowest KL that meets the budget when run again."""
        kind = budget.kind
        near = [trial for trial in trials if trial.cost <= NEAR[kind] * limit]
        ranked = sorted(near, key=lambda trial: trial.found.kl_measured)
        for first in range(0, len(ranked), FINALISTS):
            some = ranked[first : first + FINALISTS]
            mixes = [{**self._fixed, **trial.found.types} for trial in some]
            for trial, runs in zip(some, self._measure(mixes, FINAL_RUNS), strict=True):
                trial.runs = runs
            for trial in some:
                if cost_of(kind, trial.runs) <= ROOM[kind] * limit:
                    return trial
        for trial in ranked:  # none has room to spare
            if cost_of(kind, trial.runs) <= limit:
                return trial
        raise _failure(budget, limit, min(trials, key=lambda trial: trial.cost))


def cost_of(kind: str, runs: Sequence[Footprint]) -> int:
    """Return the largest peak of some runs in bytes, or their median time a token in ns."""
    if kind == "ram":
        return max(run.peak_rss_bytes for run in runs)
    return round(1e6 * statistics.median(run.tpot_ms for run in runs))


def _types(chosen: Mapping[str, Option]) -> dict[str, str]:
    return {name: option.type for name, option in chosen.items()}


def _text(kind: str, cost: float) -> str:
    return bytes_text(cost) if kind == "ram" else f"{cost / 1e6:.3g} ms"


def _describe(budget: Budget, trial: Trial, tried: int) -> dict[str, Any]:
    return {
        "budget": budget.kind,
        "peak_rss_bytes": cost_of("ram", trial.runs),
        "before_rss_bytes": max(run.before_rss_bytes for run in trial.runs),
        "tpot_ms": cost_of("tpot", trial.runs) / 1e6,
        "runs": len(trial.runs),
        "trial_files": tried,
        "runtime": trial.runs[0].runtime,
        "threads": trial.runs[0].threads,
    }


def describe_taken(taken: Mapping[str, Any]) -> str:
    """Return what a log line says of the facts of :meth:`Device.meet`; nothing of none."""
    if not taken:
        return ""
    return (
        f"; takes {bytes_text(taken['peak_rss_bytes'])} of memory and {taken['tpot_ms']:.3g} ms "
        f"per token in {taken['runtime']} (threads: {taken['threads']}, runs: {taken['runs']})"
    )


def _failure(budget: Budget, limit: float, trial: Trial) -> GateFailed:
    cost = cost_of(budget.kind, trial.runs)
    before = max(run.before_rss_bytes for run in trial.runs)
    least, hint = "fastest", "more bench.threads"
    if budget.kind == "ram":
        least, hint = "smallest", f"{bytes_text(before)} are in use before a file is opened"
    return GateFailed(
        f"the {least} file possible takes {_text(budget.kind, cost)}, "
        f"{_text(budget.kind, cost - limit)} over the budget",
        where=f"quantize.budget: {budget.name}",
        hint=f"a smaller student (distill.student.layers, mlp or hidden); {hint}",
    )
