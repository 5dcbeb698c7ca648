"""The bytes of a file around its searched tensors, and the budget of bytes they have."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edgetune.errors import GateFailed, InputError
from edgetune.log import bytes_text
from edgetune.quantize.candidates import Candidates
from edgetune.quantize.formats.ggml import row_bytes
from edgetune.quantize.formats.types import pad
from edgetune.quantize.search.budget import Budget
from edgetune.quantize.search.sensitivity import Allocation, Search
from edgetune.runtimes.gguf_header import GgufFile

STEPS_DOWN = 4  # searches for one budget, where what lies around the tensors depends on types


@dataclass(frozen=True)
class Skeleton:
    """The file around the searched tensors.

    Attributes:
        fixed: types of the tensors that are not searched.
        overhead: bytes of them, of the header and of all padding; where they depend on the types
            (an ONNX graph), those of the types that take most of them, or some bytes less.
        weights: how many the model has, those of vectors included, a tied head counted once.
        header: bytes of the overhead that are no tensor's: header, vocabulary, graph.
        sizes: bytes of whole files whose bytes can be a budget, by scheme.
        count: types of the searched tensors to the bytes of the whole file, where these are not
            just ``overhead`` and the tensors' own.
    """

    fixed: dict[str, str]
    overhead: int
    weights: int
    header: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    count: Callable[[Mapping[str, str]], int] | None = None

    def bytes_of(self, types: Mapping[str, str], candidates: Candidates) -> int:
        """Return the bytes of the file whose searched tensors have these types."""
        if self.count is not None:
            return self.count(types)
        return candidates.bytes_of(types) + self.overhead

    def room_for(self, budget: Budget) -> int:
        """Return the bytes that a budget of bytes or bits leaves to the searched tensors.

        Raises:
            InputError: the bytes of that scheme are not known.
        """
        if budget.kind == "bits":
            assert budget.value is not None
            return int(budget.value * self.weights / 8) - (self.overhead - self.header)
        return self.limit_of(budget) - self.overhead

    def limit_of(self, budget: Budget) -> int:
        """Return the most bytes that the whole file of a budget of bytes may have.

        Raises:
            InputError: the bytes of that scheme are not known.
        """
        if budget.like is None:
            assert budget.value is not None
            return int(budget.value)
        if budget.like not in self.sizes:
            raise InputError(
                f"the bytes of {budget.like} are not known here",
                where=f"quantize.budget: {budget.name}",
                hint=f"one of {', '.join(self.sizes)}, or a number of bytes",
            )
        return self.sizes[budget.like]


def count_gguf(source: GgufFile, mix: Mapping[str, str]) -> int:
    """Return the bytes of a GGUF file's tensors in these types, each with its padding."""
    return sum(
        pad(math.prod(tensor.shape[:-1]) * row_bytes(tensor.shape[-1], mix[name]))
        for name, tensor in source.tensors.items()
        if name in mix
    )


def refuse_too_small(
    budgets: Sequence[Budget], skeleton: Skeleton, candidates: Candidates, types: Sequence[str]
) -> None:
    """Refuse bytes that no file can have, before the work.

    Args:
        budgets: what the files have to meet.
        skeleton: the file around the candidates.
        candidates: none of them made yet.
        types: what they may become.

    Raises:
        GateFailed: a budget that nothing meets.
    """
    smallest = candidates.smallest(types)
    for budget in budgets:
        if budget.kind in ("bytes", "bits"):
            _refuse(budget, skeleton, candidates, smallest)


def _refuse(
    budget: Budget, skeleton: Skeleton, candidates: Candidates, smallest: Mapping[str, str]
) -> None:
    over = candidates.bytes_of(smallest) - skeleton.room_for(budget)
    if over <= 0:
        return
    size = skeleton.bytes_of(smallest, candidates)
    if budget.kind == "bytes":  # counted exactly, which is worth it near the edge alone
        over = size - skeleton.limit_of(budget)
    if over > 0:
        raise GateFailed(
            f"the smallest file possible has {_count_text(size)}, {_count_text(over)} over "
            "the budget",
            where=f"quantize.budget: {budget.name}",
            hint="a smaller student: distill.student.layers, mlp or hidden",
        )


def _count_text(count: int) -> str:
    return bytes_text(count) if count < 1000 else f"{bytes_text(count)} ({count:,} bytes)"


def meet_bytes(
    budget: Budget, search: Search, skeleton: Skeleton, known: Mapping[str, Allocation]
) -> Allocation:
    """Return the mix of the lowest KL found whose file has no more bytes than a budget allows.

    Args:
        budget: of bytes or bits.
        search: its sensitivities estimated.
        skeleton: the file around the candidates.
        known: stock mixes that were measured; what is allocation is no worse than those that fit.

    Raises:
        GateFailed: no file is as small as that.
    """
    candidates = search.candidates
    smallest = {
        name: min(sensitivities, key=lambda kind, name=name: candidates.size(name, kind))  # type: ignore[misc]
        for name, sensitivities in search.sensitivities.items()
    }
    _refuse(budget, skeleton, candidates, smallest)
    least = candidates.bytes_of(smallest)
    room = max(least, skeleton.room_for(budget))
    for _ in range(STEPS_DOWN):
        fitting = [stock for stock in known.values() if stock.bytes <= room]
        start = min(fitting, key=lambda stock: stock.kl_measured).types if fitting else None
        allocation = search.best_for_bytes(room, start)
        if budget.kind == "bits":
            return allocation
        over = skeleton.bytes_of(allocation.types, candidates) - skeleton.limit_of(budget)
        if over <= 0:
            return allocation
        room = max(least, min(room, allocation.bytes) - over)
    return search.measure(smallest)  # it fits, or would have been refused
