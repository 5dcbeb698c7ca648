"""Estimate each tensor's sensitivity to each type, and search the types of the lowest KL by it.

A tensor's sensitivity is the KL that its rounding adds, on the user's text. It is estimated from
one forward pass a tensor: the KL with that tensor alone in a probe type, scaled to the other types
by their rounding error weighted with the importance matrix. On the embedded base (78 tensors, 14
types) this ranks the 1,092 pairs as measuring every one does (Spearman 0.998). The best assignment
under a budget is then measured as a whole, and exchanges from there, because KL increases do not
simply add up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgetune.errors import EdgetuneError, InputError
from edgetune.log import Log
from edgetune.quantize.calibration.kl_meter import KLMeter
from edgetune.quantize.candidates import Candidates
from edgetune.quantize.search.knapsack import Option, assign_types, convex_frontier

ROUNDS = 3  # of measuring exchanges and assigning again, at most
MISLED = 1.1  # measured over estimated KL from which exchanges are measured
BISECTIONS = 10  # of the budget, where the budget is a KL
SMALLER = 0.97  # of the bytes that hold a KL, tried once more with measured exchanges
PROBES = 24  # pairs measured for the rank correlation


#: Tensor to type to what it costs, in a unit of its own.
Prices = Mapping[str, Mapping[str, int]]


@dataclass
class Allocation:
    """A type for each tensor, its bytes and its KL.

    Attributes:
        types: tensor to type.
        bytes: of these tensors in a file.
        kl_estimated: the sum of the parts.
        kl_measured: of the whole, on the calibration text.
    """

    types: dict[str, str]
    bytes: int
    kl_estimated: float
    kl_measured: float


@dataclass
class Search:
    """The sensitivity of every (tensor, type), refined as assignments are measured.

    Attributes:
        candidates: what a tensor can be.
        meter: measures the KL of a change.
        sensitivities: tensor to type to estimated KL.
        tried: every assignment that was measured, in order.
    """

    candidates: Candidates
    meter: KLMeter
    log: Log
    sensitivities: dict[str, dict[str, float]] = field(default_factory=dict)
    tried: list[Allocation] = field(default_factory=list)

    @property
    def _probe_types(self) -> tuple[str, ...]:
        return self.candidates.types.probe_types

    def estimate(self) -> None:
        """Measure each tensor once, in its probe type, and scale that to its other types."""
        self.meter.keep()
        with self.log.progress("sensitivity", len(self.candidates.weights)) as bar:
            for name, errors in self.candidates.errors.items():
                finite = [kind for kind, error in errors.items() if math.isfinite(error)]
                probe = next(
                    (one for one in self._probe_types if one in finite), min(finite or errors)
                )
                kl = self.measure_alone(name, probe)
                scale = kl / max(errors[probe], 1e-30)
                # Values beyond a type's range (F16's) have no error that is a number.
                self.sensitivities[name] = {
                    kind: scale * error for kind, error in errors.items() if math.isfinite(error)
                }
                if not (math.isfinite(kl) and self.sensitivities[name]):
                    raise EdgetuneError(
                        f"its KL in {probe} is no finite number", where=f"quantize.budget: {name}"
                    )
                bar.update(1, now=name)

    def measure_alone(self, tensor: str, kind: str) -> float:
        """Return the KL with one tensor in a type and all others as they are."""
        weight = self.candidates.weights[tensor]
        return self.meter.measure(self.candidates.in_model({tensor: kind}), weight.layer)

    def rank_correlation(self, seed: int) -> tuple[float, int]:
        """Return Spearman's rho of estimated and measured KL over some pairs, and how many.

        The pairs are drawn from those that are no probe types: a probe agrees with itself.
        """
        pairs = [
            (tensor, kind)
            for tensor, sensitivities in self.sensitivities.items()
            for kind in sensitivities
            if kind not in self._probe_types
        ]
        chosen = np.random.default_rng(seed).permutation(len(pairs))[:PROBES]
        estimated = [self.sensitivities[pairs[n][0]][pairs[n][1]] for n in chosen]
        measured = [self.measure_alone(*pairs[n]) for n in chosen]
        return spearman(estimated, measured), len(chosen)

    def options(self, prices: Prices | None = None) -> dict[str, list[Option]]:
        """Return what assignment chooses from, at these prices or at the bytes it takes."""
        return {
            tensor: [
                Option(kind, self._price_of(tensor, kind, prices), kl)
                for kind, kl in sensitivities.items()
            ]
            for tensor, sensitivities in self.sensitivities.items()
        }

    def _price_of(self, tensor: str, kind: str, prices: Prices | None) -> int:
        return self.candidates.size(tensor, kind) if prices is None else prices[tensor][kind]

    def measure(self, types: Mapping[str, str], rtn: bool = False) -> Allocation:
        """Measure a whole assignment; ``rtn``: rounded to nearest, without GPTQ."""
        size = self.candidates.bytes_of(types)
        kl = self.meter.measure(self.candidates.in_model(types, rtn))
        estimated = sum(self.sensitivities[name][kind] for name, kind in types.items())
        allocation = Allocation(dict(types), size, estimated, kl)
        self.tried.append(allocation)
        return allocation

    def best_for_bytes(
        self, budget: int, start: Mapping[str, str] | None = None, prices: Prices | None = None
    ) -> Allocation:
        """Return the assignment of the lowest KL allocation within ``budget`` bytes.

        Args:
            budget: bytes of the tensors searched, padding included; what they may cost where
                there are ``prices``.
            start: an assignment to be no worse than, if it fits; a stock mix for instance.
            prices: what each type of a tensor costs, if not its bytes.

        Raises:
            InputError: the smallest types need more.
        """
        options = self.options(prices)
        best = self.measure(_types(assign_types(options, budget)))
        if start is not None:
            stock = self.measure(start)
            spent = sum(self._price_of(name, kind, prices) for name, kind in start.items())
            if spent <= budget and stock.kl_measured < best.kl_measured:
                best = stock
        for _ in range(ROUNDS):
            if best.kl_measured <= MISLED * best.kl_estimated:
                break  # the parts told the truth, and assignment by them is exact
            tried = self.measure(_types(assign_types(self._exchanges(best, options), budget)))
            if tried.kl_measured >= best.kl_measured:
                break
            best = tried
        return best

    def smallest_for_kl(self, limit: float, start: Allocation | None = None) -> Allocation:
        """Return the smallest assignment allocation whose measured KL is at most ``limit`` nats.

        That is the one of the smallest types, where it holds. Else bisects the budget, a
        measurement a step; then refines that of the last budget that held.

        Raises:
            InputError: nothing gets there; the message says how near the nearest came.
        """
        options = self.options()
        low = sum(min(one.bytes for one in several) for several in options.values())
        high = sum(max(one.bytes for one in several) for several in options.values())
        smallest = self.measure(_types(assign_types(options, low)))
        if smallest.kl_measured <= limit:
            return smallest
        rivals = [self.measure(_types(assign_types(options, high))), *([start] if start else [])]
        holding = [one for one in rivals if one.kl_measured <= limit]
        if not holding:
            nearest = min([smallest, *rivals], key=lambda one: one.kl_measured)
            raise InputError(
                f"the lowest KL that these types reach is {nearest.kl_measured:.3g}",
                where="quantize.budget",
            )
        best = min(holding, key=lambda one: one.bytes)
        high = best.bytes
        for _ in range(BISECTIONS):
            middle = (low + high) // 2
            tried = self.measure(_types(assign_types(options, middle)))
            if tried.kl_measured <= limit:
                best, high = min(best, tried, key=lambda one: one.bytes), middle
            else:
                low = middle
        if int(SMALLER * best.bytes) <= low:
            return best
        smaller = self.best_for_bytes(int(SMALLER * best.bytes), start=best.types)
        return smaller if smaller.kl_measured <= limit else best

    def _exchanges(
        self, allocation: Allocation, options: Mapping[str, Sequence[Option]]
    ) -> dict[str, list[Option]]:
        """Return options whose KL is what an exchange does to ``allocation``, not to the model.

        The next smaller and the next larger useful type of each tensor are measured; types beyond
        them are scaled from the nearer one.
        """
        values = self.candidates.in_model(allocation.types)
        made: dict[str, list[Option]] = {}
        with self.meter.changed(values):
            here = self.meter.keep()
            with self.log.progress("exchanges", len(options)) as bar:
                for tensor, several in options.items():
                    made[tensor] = self._price(tensor, allocation.types[tensor], several, here)
                    bar.update(1, now=tensor)
        self.meter.keep()
        return made

    def _price(self, tensor: str, now: str, options: Sequence[Option], here: float) -> list[Option]:
        frontier = convex_frontier(options)
        current = next(one for one in options if one.type == now)
        smaller = [one for one in frontier if one.bytes < current.bytes][-1:]
        larger = [one for one in frontier if one.bytes > current.bytes][:1]
        slopes = {}
        for side, nearest in (("smaller", smaller), ("larger", larger)):
            for one in nearest:
                moved = self.measure_alone(tensor, one.type) - here
                gap = one.kl - current.kl
                slopes[side] = moved / gap if abs(gap) > 1e-15 else 1.0
        return [
            one._replace(
                kl=(one.kl - current.kl)
                * max(0.0, slopes.get("smaller" if one.kl > current.kl else "larger", 1.0))
            )
            for one in options
        ]


def _types(chosen: Mapping[str, Option]) -> dict[str, str]:
    return {name: option.type for name, option in chosen.items()}


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the rank correlation of two lists without ties."""
    ranks = [np.argsort(np.argsort(values)).astype(float) for values in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
