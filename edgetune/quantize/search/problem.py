"""From a target to the types of a file: what a search is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgetune.errors import GateFailed, InputError
from edgetune.log import Log, bytes_text
from edgetune.quantize.calibration.activations import ActivationStats
from edgetune.quantize.calibration.kl_meter import KLMeter
from edgetune.quantize.candidates import Candidates
from edgetune.quantize.formats.ggml import stock_types
from edgetune.quantize.formats.types import GGUF
from edgetune.quantize.methods.gptq import accumulate_hessians
from edgetune.quantize.row_order import order_like
from edgetune.quantize.search.budget import MEASURED, Target
from edgetune.quantize.search.device import Device, Measure, describe_taken
from edgetune.quantize.search.sensitivity import Found, Search
from edgetune.quantize.search.skeleton import Frame, count_gguf, refuse_too_small, spend_bytes
from edgetune.quantize.weights import find_weights
from edgetune.runtimes.gguf_header import GgufFile

#: Schemes that stand beside the search's own points in the report, and that it must not lose to.
STOCK = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M")
#: (scheme, the type of each tensor) to the bytes before the first tensor of that file.
CountHeader = Callable[[str, Mapping[str, str]], int]
FIXED_LIKE = "Q8_0"  # the mix whose types the tensors get that are not searched


@dataclass
class Fits:
    """What a search found.

    Attributes:
        types: file name to the type of every tensor.
        budgets: file name to the most bytes that it may have, where bytes are the target.
        facts: ``{"fits", "stock", "frontier", "rank_correlation", "pairs", "positions"}``.
        candidates: what each tensor could have been; none where nothing was searched.
    """

    types: dict[str, dict[str, str]] = field(default_factory=dict)
    budgets: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    candidates: Candidates | None = None


def fit_targets(
    model: Any,
    source: GgufFile,
    names: tuple[str, int],
    energy: ActivationStats | None,
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
    count_header: CountHeader | None = None,
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
        count_header: tells the bytes of a file's header; absent, that of ``source`` is taken.

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
        moments = accumulate_hessians(model, kept, sequences, log)
    candidates = Candidates(model, weights, scratch / "candidates", GGUF, moments)
    stock = {scheme: stock_types(source.path, scheme, importance).types for scheme in STOCK}
    count = count_header or (lambda scheme, mix: first_offset(source))
    likes = {target.like for target in targets if target.like} - set(stock)
    mixes = stock | {like: stock_types(source.path, like, importance).types for like in likes}
    sizes = {like: count(like, mix) + count_gguf(source, mix) for like, mix in mixes.items()}
    fixed = {n: k for n, k in stock[FIXED_LIKE].items() if n not in candidates.weights}
    header = count("", dict.fromkeys(candidates.weights, GGUF.names[-1]))
    overhead = header + count_gguf(source, fixed)
    frame = Frame(fixed, overhead, count_parameters(model), header, sizes)
    refuse_too_small(targets, frame, candidates, types)
    candidates.make(types, log)
    search = Search(candidates, KLMeter(model, sequences, tokens), log)
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
    fits = Fits(candidates=search.candidates)
    device = Device(search, frame.fixed, measure, log) if measure else None
    rows = []
    for target in targets:
        taken: dict[str, Any] = {}
        if target.kind in MEASURED:
            assert device is not None, "a target of memory or time, and nothing to run files with"
            found, taken = device.meet(target, known)
        else:
            found = _meet(target, search, frame, known)
        fits.types[target.name] = {**frame.fixed, **found.types}
        if target.kind == "bytes":
            fits.budgets[target.name] = frame.budget_of(target)
        size = frame.bytes_of(found.types, search.candidates)
        rows.append({**_describe(target.name, found, frame), "bytes": size, **taken})
        log.say(
            f"{target.name}: {bytes_text(size)}, KL "
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


def first_offset(source: GgufFile) -> int:
    """Return where the tensors of a GGUF file begin."""
    return min(tensor.offset for tensor in source.tensors.values())


def _measure_stock(search: Search, stock: Mapping[str, Mapping[str, str]]) -> dict[str, Found]:
    """Measure llama.cpp's own mixes as far as the search knows their types."""
    found = {}
    for scheme, mix in stock.items():
        types = {name: mix[name] for name in search.candidates.weights}
        if all(kind in search.harms[name] for name, kind in types.items()):
            found[scheme] = search.measure(types, plain=True)
    return found


def _meet(target: Target, search: Search, frame: Frame, known: Mapping[str, Found]) -> Found:
    if target.kind == "kl":
        assert target.value is not None
        near = [found for found in known.values() if found.kl_measured <= target.value]
        start = min(near, key=lambda found: found.bytes, default=None)
        try:
            return search.least_for_kl(target.value, start and search.measure(start.types))
        except InputError as error:
            raise GateFailed(
                f"kl={target.value:g} cannot be met: {error.what}",
                where=f"quantize.target: {target.name}",
            ) from error
    return spend_bytes(target, search, frame, known)


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
