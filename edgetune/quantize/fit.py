"""From a target to the types of a file: what a search is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgetune.errors import GateFailed, InputError
from edgetune.log import Log, bytes_text
from edgetune.quantize.candidates import Candidates
from edgetune.quantize.feedback import measure_moments
from edgetune.quantize.fit_device import Device, Measure, describe_taken
from edgetune.quantize.ggml import row_bytes, stock_types
from edgetune.quantize.harm import HarmMeter
from edgetune.quantize.inputs import InputEnergy
from edgetune.quantize.row_order import order_like
from edgetune.quantize.search import Found, Search
from edgetune.quantize.target import MEASURED, Target
from edgetune.quantize.types import GGUF, pad
from edgetune.quantize.weights import find_weights
from edgetune.runtimes.gguf_header import GgufFile

#: Schemes that stand beside the search's own points in the report, and that it must not lose to.
STOCK = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M")
FIXED_LIKE = "Q8_0"  # the mix whose types the tensors get that are not searched


@dataclass(frozen=True)
class Frame:
    """The file around the searched tensors.

    Attributes:
        fixed: types of the tensors that are not searched.
        overhead: bytes of them, of the header and of all padding.
        weights: how many the model has, those of vectors included, a tied head counted once.
        header: bytes of the overhead that are no tensor's: header, vocabulary, graph.
    """

    fixed: dict[str, str]
    overhead: int
    weights: int
    header: int = 0


@dataclass
class Fits:
    """What a search found.

    Attributes:
        types: file name to the type of every tensor.
        facts: ``{"fits", "stock", "frontier", "rank_correlation", "pairs", "positions"}``.
        candidates: what each tensor could have been; none where nothing was searched.
    """

    types: dict[str, dict[str, str]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    candidates: Candidates | None = None


def fit_targets(
    model: Any,
    source: GgufFile,
    names: tuple[str, int],
    energy: InputEnergy | None,
    importance: Mapping[str, np.ndarray],
    sequences: Sequence[Sequence[int]],
    tokens: int,
    types: Sequence[str],
    targets: Sequence[Target],
    scratch: Path,
    seed: int,
    log: Log,
    try_files: Callable[[Candidates], Measure] | None = None,
    feedback: bool = False,
) -> Fits:
    """Search the types of a GGUF file for every target.

    Args:
        model: in torch, float32.
        source: the same model as an F32 file.
        names: llama.cpp's name of the architecture, and its number of layers.
        energy: of the model's inputs, by module; none without an importance matrix.
        importance: the same by tensor, for llama.cpp's own mixes.
        sequences: calibration text, as token ids.
        tokens: how many of them KL is measured on.
        types: what a tensor may become.
        targets: what the files have to meet.
        scratch: folder for the candidates' bytes; a killed search finds them again.
        seed: of the pairs that the estimate is checked on.
        log: where bars go.
        try_files: what runs files of the candidates' types; needed where a target is memory or
            time.
        feedback: columns make up for each other's rounding errors, in tensors whose rows the file
            has as they are or in another order.

    Raises:
        GateFailed: a budget that nothing meets.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in source.tensors.items()}
    weights = find_weights(model, *names, shapes, energy)
    moments = {}
    if feedback:
        kept = [
            one
            for one in weights
            if order_like(source.read(one.tensor), one.read(model)) is not None
        ]
        moments = measure_moments(model, kept, sequences, log)
    candidates = Candidates(model, weights, scratch / "candidates", GGUF, moments)
    stock = {scheme: stock_types(source.path, scheme, importance).types for scheme in STOCK}
    frame = make_frame(source, stock[FIXED_LIKE], candidates, count_parameters(model))
    refuse_too_small(targets, frame, candidates.least(types))
    candidates.make(types, log)
    search = Search(candidates, HarmMeter(model, sequences, tokens), log)
    measure = try_files(candidates) if try_files else None
    return search_targets(search, frame, stock, targets, seed, log, measure)


def search_targets(
    search: Search,
    frame: Frame,
    stock: Mapping[str, Mapping[str, str]],
    targets: Sequence[Target],
    seed: int,
    log: Log,
    measure: Measure | None = None,
) -> Fits:
    """Search the types of the candidates for every target, and measure stock mixes beside them.

    Args:
        search: nothing of it estimated yet.
        frame: the file around the candidates.
        stock: scheme to the type of each tensor.
        targets: what the files have to meet.
        seed: of the pairs that the estimate is checked on.
        log: where bars go.
        measure: runs files; needed where a target is memory or time.

    Raises:
        GateFailed: a budget that nothing meets.
    """
    search.estimate()
    correlation, pairs = search.rank_correlation(seed)
    log.say(
        f"harm of {len(search.harms)} tensors estimated on {search.meter.positions:,} tokens; "
        f"ranks as measured: {correlation:.3f} over {pairs} pairs"
    )
    known = _measure_stock(search, stock)
    sizes = {scheme: search.candidates.bytes_of(mix) for scheme, mix in stock.items()}
    fits = Fits(candidates=search.candidates)
    device = Device(search, frame.fixed, measure, log) if measure else None
    rows = []
    for target in targets:
        taken: dict[str, Any] = {}
        if target.kind in MEASURED:
            assert device is not None, "a target of memory or time, and nothing to run files with"
            found, taken = device.meet(target, known)
        else:
            found = _meet(target, search, frame, known, sizes)
        fits.types[target.name] = {**frame.fixed, **found.types}
        rows.append({**_describe(target.name, found, frame), **taken})
        log.say(
            f"{target.name}: {bytes_text(found.bytes + frame.overhead)}, KL "
            f"{found.kl_measured:.3g} on calibration text{describe_taken(taken)}"
        )
    fits.facts = {
        "fits": rows,
        "stock": [_describe(scheme, found, frame) for scheme, found in known.items()],
        "frontier": _frontier(search, frame),
        "rank_correlation": correlation,
        "pairs": pairs,
        "positions": search.meter.positions,
    }
    return fits


def count_parameters(model: Any) -> int:
    """Return how many weights a model in torch has, a tied head counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def make_frame(
    source: GgufFile, mix: Mapping[str, str], candidates: Candidates, weights: int
) -> Frame:
    """Return what the file holds besides the tensors of ``candidates``."""
    fixed = {name: kind for name, kind in mix.items() if name not in candidates.weights}
    overhead = header = min(tensor.offset for tensor in source.tensors.values())
    for name, kind in fixed.items():
        *rows, columns = source.tensors[name].shape
        overhead += pad(int(np.prod(rows, dtype=np.int64)) * row_bytes(columns, kind))
    return Frame(fixed, overhead, weights, header)


def refuse_too_small(targets: Sequence[Target], frame: Frame, least: int) -> None:
    """Refuse bytes that no file can have, before the work.

    Args:
        targets: what the files have to meet.
        frame: the file around the candidates.
        least: bytes of these in their smallest types.

    Raises:
        GateFailed: a budget that nothing meets.
    """
    for target in targets:
        if target.kind in ("bytes", "bits") and target.like is None:
            _refuse(target, least, _budget(target, frame, {}) - frame.overhead, frame)


def _refuse(target: Target, least: int, budget: int, frame: Frame) -> None:
    if least > budget:
        raise GateFailed(
            f"the smallest file possible has {bytes_text(least + frame.overhead)}, "
            f"{bytes_text(least - budget)} more than the target",
            where=f"quantize.target: {target.name}",
            hint="a smaller student: distill.student.layers, mlp or hidden",
        )


def _measure_stock(search: Search, stock: Mapping[str, Mapping[str, str]]) -> dict[str, Found]:
    """Measure llama.cpp's own mixes as far as the search knows their types."""
    found = {}
    for scheme, mix in stock.items():
        types = {name: mix[name] for name in search.candidates.weights}
        if all(kind in search.harms[name] for name, kind in types.items()):
            found[scheme] = search.measure(types, plain=True)
    return found


def _meet(
    target: Target, search: Search, frame: Frame, known: Mapping[str, Found],
    sizes: Mapping[str, int],
) -> Found:  # fmt: skip
    if target.kind == "kl":
        assert target.value is not None
        near = [found for found in known.values() if found.kl_measured <= target.value]
        start = min(near, key=lambda found: found.bytes, default=None)
        try:
            return search.least_for_kl(target.value, start and search.measure(start.types))
        except InputError as error:
            raise GateFailed(
                f"kl={target.value:g} cannot be met: {error.what}", where="quantize.target"
            ) from error
    budget = _budget(target, frame, sizes) - frame.overhead
    least = sum(min(one.bytes for one in several) for several in search.options().values())
    _refuse(target, least, budget, frame)
    fitting = [found for found in known.values() if found.bytes <= budget]
    start = min(fitting, key=lambda found: found.kl_measured).types if fitting else None
    return search.best_for_bytes(budget, start)


def _budget(target: Target, frame: Frame, sizes: Mapping[str, int]) -> int:
    """Return the bytes of the whole file; ``sizes``: of the tensors in each stock mix."""
    if target.like is not None:
        if target.like not in sizes:
            raise InputError(
                f"the bytes of {target.like} are not known here",
                where=f"quantize.target: {target.name}",
                hint=f"one of {', '.join(sizes)}, or a number of bytes",
            )
        return sizes[target.like] + frame.overhead
    assert target.value is not None
    if target.kind == "bits":
        return int(target.value * frame.weights / 8) + frame.header
    return int(target.value)


def _describe(name: str, found: Found, frame: Frame) -> dict[str, Any]:
    return {
        "name": name,
        "bytes": found.bytes + frame.overhead,
        "bits_per_weight": 8 * (found.bytes + frame.overhead - frame.header) / frame.weights,
        "kl_estimated": found.kl_estimated,
        "kl_measured": found.kl_measured,
    }


def _frontier(search: Search, frame: Frame) -> list[dict[str, Any]]:
    """Return what was measured and is not beaten in both bytes and KL, smallest first."""
    kept: list[Found] = []
    for found in sorted(search.tried, key=lambda one: (one.bytes, one.kl_measured)):
        if not kept or found.kl_measured < kept[-1].kl_measured:
            kept.append(found)
    return [_describe("", found, frame) for found in kept]
