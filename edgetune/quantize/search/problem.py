"""Search the type of every tensor of a file for each budget: one search for GGUF and for ONNX.

:mod:`.gguf` and :mod:`.onnx` build the :class:`SearchProblem` of their format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgetune.errors import GateFailed, InputError
from edgetune.log import Log, bytes_text
from edgetune.models.parameters import own_names
from edgetune.quantize.calibration.kl_meter import KLMeter
from edgetune.quantize.calibration.layer_passes import LayerHessians
from edgetune.quantize.candidates import Candidates
from edgetune.quantize.search.budget import MEASURED, Budget
from edgetune.quantize.search.device import Device, Measure, describe_taken
from edgetune.quantize.search.sensitivity import Allocation, Search
from edgetune.quantize.search.skeleton import Skeleton, meet_bytes, refuse_too_small


@dataclass(frozen=True)
class SearchSettings:
    """What both formats' searches are given.

    Attributes:
        model: in torch, float32.
        sequences: calibration text, as token ids.
        kl_tokens: how many of them KL is measured on.
        types: what a tensor may become.
        budgets: what the files have to meet.
        scratch: folder for the candidates' bytes; a killed search finds them again.
        seed: of the pairs that the estimate is checked on.
        hessians: opens those of the inputs: tensors are rounded with error compensation (GPTQ) in
            types with a codec; none: to nearest.
        run_files: makes, of the candidates, what runs files of their types; needed where a budget
            is memory or time.
    """

    model: Any
    sequences: Sequence[Sequence[int]]
    kl_tokens: int
    types: Sequence[str]
    budgets: Sequence[Budget]
    scratch: Path
    seed: int
    hessians: Callable[[], AbstractContextManager[LayerHessians]] | None = None
    run_files: Callable[[Candidates], Measure] | None = None


@dataclass(frozen=True)
class SearchProblem:
    """The tensors of one file whose types are searched.

    Attributes:
        candidates: the tensors; none of them quantized yet.
        skeleton: the file around them.
        stock: scheme to the type of each tensor: mixes that are measured beside the search's own.
    """

    candidates: Candidates
    skeleton: Skeleton
    stock: Mapping[str, Mapping[str, str]]


@dataclass
class SearchResult:
    """The types that a search chose.

    Attributes:
        types: file name to the type of every tensor.
        max_bytes: file name to the most bytes that it may have, where the budget is bytes.
        facts: ``{"results", "stock", "frontier", "rank_correlation", "pairs", "positions"}``.
        candidates: the bytes of each tensor in each type; none where nothing was searched.
    """

    types: dict[str, dict[str, str]] = field(default_factory=dict)
    max_bytes: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    candidates: Candidates | None = None


def search_types(problem: SearchProblem, settings: SearchSettings, log: Log) -> SearchResult:
    """Search the types of a file for every budget, and measure stock mixes beside them.

    Raises:
        GateFailed: a budget that nothing meets.
    """
    # 1. Every candidate's bytes, unless a budget of bytes cannot be met by any.
    candidates, skeleton = problem.candidates, problem.skeleton
    refuse_too_small(settings.budgets, skeleton, candidates, settings.types)
    with settings.hessians() if settings.hessians else nullcontext() as hessians:
        candidates.make(settings.types, log, hessians)

    # 2. The sensitivity of each tensor, checked by its ranks; then the stock mixes.
    meter = KLMeter(settings.model, settings.sequences, settings.kl_tokens)
    search = Search(candidates, meter, log)
    search.estimate()
    correlation, pairs = search.rank_correlation(settings.seed)
    log.say(
        f"sensitivity of {len(search.sensitivities)} tensors estimated on {meter.positions:,} "
        f"tokens; ranks as measured: {correlation:.3f} over {pairs} pairs"
    )
    known = _measure_stock(search, problem.stock)

    # 3. The best mix for each budget.
    result = SearchResult(candidates=candidates)
    measure = settings.run_files(candidates) if settings.run_files else None
    device = Device(search, skeleton.fixed, measure, log) if measure else None
    rows = []
    for budget in settings.budgets:
        allocation, row = _meet(budget, search, skeleton, known, device)
        rows.append(row)
        result.types[budget.name] = {**skeleton.fixed, **allocation.types}
        if budget.kind == "bytes":
            result.max_bytes[budget.name] = skeleton.limit_of(budget)
    result.facts = {
        "results": rows,
        "stock": [_describe(scheme, found, skeleton) for scheme, found in known.items()],
        "frontier": _frontier(search, skeleton),
        "rank_correlation": correlation,
        "pairs": pairs,
        "positions": meter.positions,
    }
    return result


def _meet(
    budget: Budget,
    search: Search,
    skeleton: Skeleton,
    known: Mapping[str, Allocation],
    device: Device | None,
) -> tuple[Allocation, dict[str, Any]]:
    """Return the best mix found for a budget, and the facts of its file."""
    taken: dict[str, Any] = {}
    if budget.kind in MEASURED:
        assert device is not None, "a budget of memory or time, and nothing to run files with"
        allocation, taken = device.meet(budget, known)
    elif budget.kind == "kl":
        allocation = _meet_kl(budget, search, known)
    else:
        allocation = meet_bytes(budget, search, skeleton, known)
    size = skeleton.bytes_of(allocation.types, search.candidates)
    search.log.say(
        f"{budget.name}: {bytes_text(size)}, KL "
        f"{allocation.kl_measured:.3g} on calibration text{describe_taken(taken)}"
    )
    return allocation, {**_describe(budget.name, allocation, skeleton), "bytes": size, **taken}


def _meet_kl(budget: Budget, search: Search, known: Mapping[str, Allocation]) -> Allocation:
    assert budget.value is not None
    near = [stock for stock in known.values() if stock.kl_measured <= budget.value]
    start = min(near, key=lambda stock: stock.bytes, default=None)
    try:
        return search.smallest_for_kl(budget.value, start and search.measure(start.types))
    except InputError as error:
        raise GateFailed(
            f"kl={budget.value:g} cannot be met: {error.what}",
            where=f"quantize.budget: {budget.name}",
        ) from error


def _measure_stock(search: Search, stock: Mapping[str, Mapping[str, str]]) -> dict[str, Allocation]:
    """Measure llama.cpp's own mixes as far as the search knows their types."""
    known = {}
    for scheme, mix in stock.items():
        types = {name: mix[name] for name in search.candidates.weights}
        if all(kind in search.sensitivities[name] for name, kind in types.items()):
            known[scheme] = search.measure(types, rtn=True)
    return known


def _describe(name: str, allocation: Allocation, skeleton: Skeleton) -> dict[str, Any]:
    size = allocation.bytes + skeleton.overhead
    return {
        "name": name,
        "bytes": size,
        "bits_per_weight": 8 * (size - skeleton.header) / skeleton.weights,
        "kl_estimated": allocation.kl_estimated,
        "kl_measured": allocation.kl_measured,
    }


def _frontier(search: Search, skeleton: Skeleton) -> list[dict[str, Any]]:
    """Return what was measured and is not beaten in both bytes and KL, smallest first."""
    best: list[Allocation] = []
    for one in sorted(search.tried, key=lambda tried: (tried.bytes, tried.kl_measured)):
        if not best or one.kl_measured < best[-1].kl_measured:
            best.append(one)
    return [_describe("", one, skeleton) for one in best]


def count_parameters(model: Any) -> int:
    """Return how many weights a model in torch has, a tied head counted once."""
    names = dict.fromkeys(own_names(model).values())
    return sum(model.get_parameter(name).numel() for name in names)
