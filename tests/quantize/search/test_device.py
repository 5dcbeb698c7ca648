"""Budgets of memory and time: which file is picked, on devices that are made up, and refusals."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from edgetune.errors import GateFailed
from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf
from edgetune.export.gguf.support import find_architecture
from edgetune.log import Log
from edgetune.measure.footprint import Footprint
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.quantize.candidates import Candidates
from edgetune.quantize.search.budget import parse_budget
from edgetune.quantize.search.device import ROOM, Measure
from edgetune.quantize.search.gguf import GgufSource, build_gguf_problem
from edgetune.quantize.search.problem import SearchResult, SearchSettings, search_types
from edgetune.runtimes.gguf_header import open_gguf
from tests.conftest import make_model

QUIET = Log(None, quiet=True)
SEQUENCES = [[(7 * n + 3 * t * t) % 290 + 5 for t in range(24)] for n in range(8)]
TYPES = ("F16", "Q8_0", "Q6_K", "Q5_0", "Q4_K", "Q4_0", "Q3_K")
REPACKED = ("Q4_K", "Q4_0")  # these lie in memory twice, as llama.cpp has them on some machines
SLOW = {"Q3_K": 3.0, "Q5_0": 2.0}  # times the time that their bytes would take
BEFORE = 1_000_000  # bytes of the process alone


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fitted")
    make_model(folder / "model", layers=2, hidden=256)
    convert_gguf(folder / "model", folder / "F32.gguf", GgufHeader("fitted"))
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load_model(ModelRef(folder / "model"))


def made_up_device(noise: float, runs: list[Any]) -> Callable[[Candidates], Measure]:
    """A machine whose memory and time are sums over tensors, measured with so much noise."""
    draw = random.Random(0)

    def run(candidates: Candidates, types: Mapping[str, str]) -> Footprint:
        sizes = {name: candidates.size(name, types[name]) for name in candidates.weights}
        memory = sum(size * (2 if types[n] in REPACKED else 1) for n, size in sizes.items())
        time = sum(size * SLOW.get(types[n], 1.0) for n, size in sizes.items()) / 1e6
        factor = 1 + noise * draw.random()
        return Footprint(BEFORE + memory, BEFORE, time * factor, "made up", 1)

    def make(candidates: Candidates) -> Measure:
        def measure(several: Sequence[Mapping[str, str]], times: int) -> list[list[Footprint]]:
            runs.append((len(several), times))
            return [[run(candidates, types) for _ in range(times)] for types in several]

        return measure

    return make


def search(
    model: Any, folder: Path, *budgets: str, noise: float = 0.0, runs: Any = None
) -> SearchResult:
    architecture, layers, _ = find_architecture(folder / "model")  # type: ignore[misc]
    settings = SearchSettings(
        model, SEQUENCES, 128, TYPES, [parse_budget(text) for text in budgets], folder / "scratch",
        0, run_files=made_up_device(noise, [] if runs is None else runs),
    )  # fmt: skip
    source = GgufSource(open_gguf(folder / "F32.gguf"), architecture, layers)
    return search_types(build_gguf_problem(source, settings), settings, QUIET)


def test_memory_is_spent_where_it_matters_and_not_on_copies(model: Any, folder: Path) -> None:
    result = search(model, folder, "ram=1.9MB", "bytes=900KB")
    found, plain = result.facts["results"]
    assert 0.85 * 1.9e6 < found["peak_rss_bytes"] <= ROOM["ram"] * 1.9e6
    assert found["before_rss_bytes"] == BEFORE and found["runtime"] == "made up"
    assert not set(result.types["auto-ram1.9MB"].values()) & set(REPACKED)
    # The best file of about as many bytes would be copied, and take over half as much again.
    assert set(result.types["auto-900KB"].values()) & set(REPACKED)
    assert found["bytes"] < plain["bytes"] < 1.05 * found["bytes"]


def test_the_smallest_file_may_take_all_there_is(model: Any, folder: Path) -> None:
    candidates = search(model, folder, "ram=1GB").candidates
    assert candidates is not None
    least = BEFORE + sum(
        min(candidates.size(name, kind) * (2 if kind in REPACKED else 1) for kind in errors)
        for name, errors in candidates.errors.items()
    )
    (found,) = search(model, folder, f"ram={least}B").facts["results"]
    assert found["peak_rss_bytes"] == least
    with pytest.raises(GateFailed, match="1 B over the budget"):
        search(model, folder, f"ram={least - 1}B")


def test_a_budget_that_all_types_meet_gets_the_lowest_kl(model: Any, folder: Path) -> None:
    result = search(model, folder, "ram=1GB", "tpot=1s")
    for name in ("auto-ram1GB", "auto-tpot1s"):
        kinds = {kind for tensor, kind in result.types[name].items() if "norm" not in tensor}
        assert kinds == {"F16"}


def test_time_is_measured_again_before_a_file_is_picked(model: Any, folder: Path) -> None:
    runs: list[tuple[int, int]] = []
    result = search(model, folder, "tpot=1ms", noise=0.1, runs=runs)
    (found,) = result.facts["results"]
    assert found["tpot_ms"] <= 1.0 and found["runs"] == 3
    assert not set(result.types["auto-tpot1ms"].values()) & set(SLOW)
    assert runs[0] == (len(TYPES), 2)  # one file a type, there and back
    assert runs[-1][0] > 1 and runs[-1][1] == 3  # finalists by turns
    assert sum(files for files, _ in runs) < 25


def test_prices_are_shared_by_budgets(model: Any, folder: Path) -> None:
    runs: list[tuple[int, int]] = []
    search(model, folder, "tpot=1ms", "ram=1.9MB", runs=runs)
    assert [run for run in runs if run == (len(TYPES), 2)] == [(len(TYPES), 2)]


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("ram=1.2MB", r"smallest file possible takes 1\.5\d MB, 3\d\d.* over the budget"),
        ("tpot=100us", r"fastest file possible takes 0\.\d+ ms, 0\.\d+ ms over the budget"),
    ],
)
def test_a_budget_nothing_meets(model: Any, folder: Path, budget: str, message: str) -> None:
    with pytest.raises(GateFailed, match=message) as caught:
        search(model, folder, budget)
    assert caught.value.exit_code == 3
    assert f"auto-{budget.replace('=', '')}" in caught.value.where
