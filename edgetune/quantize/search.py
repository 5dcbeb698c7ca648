"""Search the type of every tensor: the least harm for the bytes, by measurement on the user's text.

How much each type harms each tensor is estimated from one forward pass a tensor: the KL with that
tensor alone in an anchor type, scaled to the other types by their rounding error weighed with the
importance matrix. On the embedded base (78 tensors, 14 types) this ranks the 1,092 pairs as
measuring every one does (Spearman 0.998). The best assignment under a budget is then measured as a
whole, and exchanges from there, because harms do not simply add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgetune.errors import InputError, Unsupported
from edgetune.log import Log
from edgetune.quantize.assign import Option, assign_types, convex_frontier
from edgetune.quantize.harm import HarmMeter
from edgetune.quantize.types import GGUF, TypeSet
from edgetune.quantize.weights import Fused, Weight

ROUNDS = 3  # of measuring exchanges and assigning anew, at most
MISLED = 1.1  # measured over estimated KL from which exchanges are measured
BISECTIONS = 10  # of the budget, where a KL is the target
PROBES = 24  # pairs measured for the rank correlation


#: Tensor to type to what it costs, in a unit of its own.
Prices = Mapping[str, Mapping[str, int]]


class Candidates:
    """The quantized bytes of every (tensor, type), made once and kept on disk.

    Attributes:
        weights: by tensor name.
        errors: tensor to type to squared rounding error, weighed by importance.
        counts: how many weights each tensor has.
        types: what makes, reads and sizes them.
    """

    def __init__(
        self, model: Any, weights: Sequence[Weight | Fused], folder: Path, types: TypeSet = GGUF
    ) -> None:
        self.types = types
        self.weights: dict[str, Any] = {weight.tensor: weight for weight in weights}
        self.errors: dict[str, dict[str, float]] = {}
        self.counts: dict[str, int] = {}
        self._model, self._folder = model, folder

    def make(self, types: Sequence[str], log: Log) -> None:
        """Quantize every tensor to every one of ``types`` that its rows allow.

        A tensor that none of them holds gets the widest there is.
        """
        with log.progress("candidates", len(self.weights)) as bar:
            for name, weight in self.weights.items():
                self.errors[name] = self._make_one(weight, types)
                bar.update(1, now=name)

    def _make_one(self, weight: Weight | Fused, types: Sequence[str]) -> dict[str, float]:
        values = weight.read(self._model)
        columns, errors = values.shape[1], {}
        self.counts[weight.tensor] = values.size
        mean = weight.importance
        held, widest = (
            [kind for kind in some if self.types.fits(columns, kind, mean is not None)]
            for some in (types, self.types.names[:1])
        )
        for kind in held or widest:
            path = self._path(weight.tensor, kind)
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                raw = self.types.quantize(values, kind, mean, weight.tensor)
                part = path.with_suffix(".part")
                with part.open("wb") as file:
                    np.save(file, raw)
                part.rename(path)
            off = np.square(self.read(weight.tensor, kind) - values)
            errors[kind] = float((off * mean).sum() if mean is not None else off.sum())
        if not errors:
            raise Unsupported(f"no type holds rows of {columns} values", where=weight.tensor)
        return errors

    def load(self, tensor: str, kind: str) -> np.ndarray:
        """Return the bytes [out, row_bytes] of a tensor in a type."""
        raw: np.ndarray = np.load(self._path(tensor, kind))
        return raw

    def read(self, tensor: str, kind: str) -> np.ndarray:
        """Return the float32 values [out, in] of a tensor in a type."""
        return self.types.read(self.load(tensor, kind), kind)

    def size(self, tensor: str, kind: str) -> int:
        """Return its bytes in a file, padding included."""
        raw = np.load(self._path(tensor, kind), mmap_mode="r")
        return self.types.size(int(raw.size))

    def in_model(self, types: Mapping[str, str]) -> dict[str, Any]:
        """Return parameter name to values for tensors in these types."""
        made: dict[str, Any] = {}
        for name, kind in types.items():
            made |= self.weights[name].as_parameters(self.read(name, kind))
        return made

    def _path(self, tensor: str, kind: str) -> Path:
        return self._folder / tensor.strip("/") / f"{kind}.npy"


@dataclass
class Found:
    """An assignment and what is known of it.

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
    """Harms of every (tensor, type), refined as assignments are measured.

    Attributes:
        candidates: what a tensor can be.
        meter: measures the KL of a change.
        harms: tensor to type to estimated KL.
        tried: every assignment that was measured, in order.
    """

    candidates: Candidates
    meter: HarmMeter
    log: Log
    harms: dict[str, dict[str, float]] = field(default_factory=dict)
    tried: list[Found] = field(default_factory=list)

    @property
    def _anchors(self) -> tuple[str, ...]:
        return self.candidates.types.anchors

    def estimate(self) -> None:
        """Measure each tensor once, in its anchor type, and scale that to its other types."""
        self.meter.keep()
        with self.log.progress("harm", len(self.candidates.weights)) as bar:
            for name, errors in self.candidates.errors.items():
                anchor = next((one for one in self._anchors if one in errors), min(errors))
                harm = self.measure_alone(name, anchor)
                scale = harm / max(errors[anchor], 1e-30)
                self.harms[name] = {kind: scale * error for kind, error in errors.items()}
                bar.update(1, now=name)

    def measure_alone(self, tensor: str, kind: str) -> float:
        """Return the KL with one tensor in a type and all others as they are."""
        weight = self.candidates.weights[tensor]
        return self.meter.measure(self.candidates.in_model({tensor: kind}), weight.layer)

    def rank_correlation(self, seed: int) -> tuple[float, int]:
        """Return Spearman's rho of estimated and measured harm over some pairs, and how many.

        The pairs are drawn from those that are no anchors: an anchor agrees with itself.
        """
        pairs = [
            (tensor, kind)
            for tensor, errors in self.candidates.errors.items()
            for kind in errors
            if kind not in self._anchors
        ]
        chosen = np.random.default_rng(seed).permutation(len(pairs))[:PROBES]
        estimated = [self.harms[pairs[n][0]][pairs[n][1]] for n in chosen]
        measured = [self.measure_alone(*pairs[n]) for n in chosen]
        return spearman(estimated, measured), len(chosen)

    def options(self, prices: Prices | None = None) -> dict[str, list[Option]]:
        """Return what assignment chooses from, at these prices or at the bytes it takes."""
        return {
            tensor: [
                Option(kind, self._price_of(tensor, kind, prices), harm)
                for kind, harm in harms.items()
            ]
            for tensor, harms in self.harms.items()
        }

    def _price_of(self, tensor: str, kind: str, prices: Prices | None) -> int:
        return self.candidates.size(tensor, kind) if prices is None else prices[tensor][kind]

    def measure(self, types: Mapping[str, str]) -> Found:
        """Measure a whole assignment."""
        size = sum(self.candidates.size(name, kind) for name, kind in types.items())
        kl = self.meter.measure(self.candidates.in_model(types))
        estimated = sum(self.harms[name][kind] for name, kind in types.items())
        found = Found(dict(types), size, estimated, kl)
        self.tried.append(found)
        return found

    def best_for_bytes(
        self, budget: int, start: Mapping[str, str] | None = None, prices: Prices | None = None
    ) -> Found:
        """Return the least harmful assignment found within ``budget`` bytes.

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

    def least_for_kl(self, limit: float, start: Found | None = None) -> Found:
        """Return the smallest assignment found whose measured KL is at most ``limit`` nats.

        Bisects the budget, a measurement a step; then refines that of the last budget that held.

        Raises:
            InputError: the largest types do not get there; the message says how near.
        """
        options = self.options()
        low = sum(min(one.bytes for one in several) for several in options.values())
        high = sum(max(one.bytes for one in several) for several in options.values())
        best = self.measure(_types(assign_types(options, high)))
        if best.kl_measured > limit:
            raise InputError(
                f"the largest types still have a KL of {best.kl_measured:.3g}",
                where="quantize.target",
            )
        if start is not None and start.kl_measured <= limit and start.bytes < best.bytes:
            best, high = start, start.bytes
        for _ in range(BISECTIONS):
            middle = (low + high) // 2
            tried = self.measure(_types(assign_types(options, middle)))
            if tried.kl_measured <= limit:
                best, high = tried, middle
            else:
                low = middle
        smaller = self.best_for_bytes(int(0.97 * best.bytes), start=best.types)
        return smaller if smaller.kl_measured <= limit else best

    def _exchanges(
        self, found: Found, options: Mapping[str, Sequence[Option]]
    ) -> dict[str, list[Option]]:
        """Return options whose harm is what an exchange does to ``found``, not to the whole model.

        The next smaller and the next larger useful type of each tensor are measured; types beyond
        them are scaled from the nearer one.
        """
        values = self.candidates.in_model(found.types)
        made: dict[str, list[Option]] = {}
        with self.meter.changed(values):
            here = self.meter.keep()
            with self.log.progress("exchanges", len(options)) as bar:
                for tensor, several in options.items():
                    made[tensor] = self._price(tensor, found.types[tensor], several, here)
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
                gap = one.harm - current.harm
                slopes[side] = moved / gap if abs(gap) > 1e-15 else 1.0
        return [
            one._replace(
                harm=(one.harm - current.harm)
                * max(0.0, slopes.get("smaller" if one.harm > current.harm else "larger", 1.0))
            )
            for one in options
        ]


def _types(chosen: Mapping[str, Option]) -> dict[str, str]:
    return {name: option.type for name, option in chosen.items()}


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the rank correlation of two lists without ties."""
    ranks = [np.argsort(np.argsort(values)).astype(float) for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])
