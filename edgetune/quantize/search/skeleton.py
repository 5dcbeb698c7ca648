"""What a target's number allows: bytes of the whole file, header, graph and padding counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edgetune.errors import GateFailed, InputError
from edgetune.log import bytes_text
from edgetune.quantize.candidates import Candidates
from edgetune.quantize.formats.ggml import row_bytes
from edgetune.quantize.formats.types import pad
from edgetune.quantize.search.budget import Target
from edgetune.quantize.search.sensitivity import Found, Search
from edgetune.runtimes.gguf_header import GgufFile

STEPS_DOWN = 4  # searches for one budget, where what lies around the tensors depends on types


@dataclass(frozen=True)
class Frame:
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

    def room_of(self, target: Target) -> int:
        """Return the bytes that a target of bytes or bits leaves to the searched tensors.

        Raises:
            InputError: the bytes of that scheme are not known.
        """
        if target.kind == "bits":
            assert target.value is not None
            return int(target.value * self.weights / 8) - (self.overhead - self.header)
        return self.budget_of(target) - self.overhead

    def budget_of(self, target: Target) -> int:
        """Return the most bytes that the whole file of a target of bytes may have.

        Raises:
            InputError: the bytes of that scheme are not known.
        """
        if target.like is None:
            assert target.value is not None
            return int(target.value)
        if target.like not in self.sizes:
            raise InputError(
                f"the bytes of {target.like} are not known here",
                where=f"quantize.target: {target.name}",
                hint=f"one of {', '.join(self.sizes)}, or a number of bytes",
            )
        return self.sizes[target.like]


def count_gguf(source: GgufFile, mix: Mapping[str, str]) -> int:
    """Return the bytes of a GGUF file's tensors in these types, each with its padding."""
    return sum(
        pad(math.prod(tensor.shape[:-1]) * row_bytes(tensor.shape[-1], mix[name]))
        for name, tensor in source.tensors.items()
        if name in mix
    )


def refuse_too_small(
    targets: Sequence[Target], frame: Frame, candidates: Candidates, types: Sequence[str]
) -> None:
    """Refuse bytes that no file can have, before the work.

    Args:
        targets: what the files have to meet.
        frame: the file around the candidates.
        candidates: none of them made yet.
        types: what they may become.

    Raises:
        GateFailed: a budget that nothing meets.
    """
    smallest = candidates.smallest(types)
    for target in targets:
        if target.kind in ("bytes", "bits"):
            _refuse(target, frame, candidates, smallest)


def _refuse(
    target: Target, frame: Frame, candidates: Candidates, smallest: Mapping[str, str]
) -> None:
    over = candidates.bytes_of(smallest) - frame.room_of(target)
    if over <= 0:
        return
    size = frame.bytes_of(smallest, candidates)
    if target.kind == "bytes":  # counted exactly, which is worth it near the edge alone
        over = size - frame.budget_of(target)
    if over > 0:
        raise GateFailed(
            f"the smallest file possible has {_count_text(size)}, {_count_text(over)} more than "
            "the target",
            where=f"quantize.target: {target.name}",
            hint="a smaller student: distill.student.layers, mlp or hidden",
        )


def _count_text(count: int) -> str:
    return bytes_text(count) if count < 1000 else f"{bytes_text(count)} ({count:,} bytes)"


def spend_bytes(target: Target, search: Search, frame: Frame, known: Mapping[str, Found]) -> Found:
    """Return the least harmful mix found whose file has no more bytes than a target allows.

    Args:
        target: of bytes or bits.
        search: its harms estimated.
        frame: the file around the candidates.
        known: stock mixes that were measured; what is found is no worse than those that fit.

    Raises:
        GateFailed: no file is as small as that.
    """
    candidates = search.candidates
    smallest = {
        name: min(harms, key=lambda kind, name=name: candidates.size(name, kind))  # type: ignore[misc]
        for name, harms in search.harms.items()
    }
    _refuse(target, frame, candidates, smallest)
    least = candidates.bytes_of(smallest)
    room = max(least, frame.room_of(target))
    for _ in range(STEPS_DOWN):
        fitting = [found for found in known.values() if found.bytes <= room]
        start = min(fitting, key=lambda found: found.kl_measured).types if fitting else None
        found = search.best_for_bytes(room, start)
        if target.kind == "bits":
            return found
        over = frame.bytes_of(found.types, candidates) - frame.budget_of(target)
        if over <= 0:
            return found
        room = max(least, min(room, found.bytes) - over)
    return search.measure(smallest)  # it fits, or would have been refused
