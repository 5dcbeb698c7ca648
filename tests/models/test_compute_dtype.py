"""``compute_dtype: auto`` is the faster dtype, measured once per machine and kept with a stage."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from edgetune.models import compute_dtype
from edgetune.models.compute_dtype import choose_dtype, find_rates, keep_dtype, median_seconds
from edgetune.models.hardware import name_machine

SLOW_BFLOAT16 = {"float32": 308e9, "bfloat16": 160e9}
FAST_BFLOAT16 = {"float32": 200e9, "bfloat16": 870e9}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that rates are kept in: absent yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "edgetune" / "machine.json"


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """What the next probes measure."""
    rates: list[dict[str, float]] = []
    monkeypatch.setattr(compute_dtype, "measure_rates", lambda: rates.pop(0))
    return rates


@pytest.mark.parametrize("rates, faster", [(SLOW_BFLOAT16, "float32"), (FAST_BFLOAT16, "bfloat16")])
def test_auto_on_a_cpu_is_the_faster_dtype(
    cache: Path, probe: list[dict[str, float]], rates: dict[str, float], faster: str
) -> None:
    probe.append(rates)
    chosen = choose_dtype("auto", "cpu")
    assert chosen.name == faster and chosen.flops == rates
    assert f"{rates[faster] / 1e9:.0f} GFLOP/s in {faster}" in chosen.reason


def test_a_dtype_of_the_recipe_is_not_measured(cache: Path, probe: list[dict[str, float]]) -> None:
    assert choose_dtype("float16", "cpu").name == "float16"
    assert not cache.exists()


def test_rates_are_measured_once_per_machine(
    cache: Path, probe: list[dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    probe += [SLOW_BFLOAT16, FAST_BFLOAT16]
    assert find_rates() == find_rates() == SLOW_BFLOAT16
    assert json.loads(cache.read_text()) == {name_machine(): SLOW_BFLOAT16}
    monkeypatch.setattr(compute_dtype, "name_machine", lambda: "another")
    assert find_rates() == FAST_BFLOAT16
    assert json.loads(cache.read_text()).keys() == {name_machine(), "another"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        '{"%s": {"float32": "fast", "bfloat16": 1.0}}',
        '{"%s": {"float32": 1.0}}',
    ],
)
def test_a_damaged_cache_is_measured_again(
    cache: Path, probe: list[dict[str, float]], text: str
) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text(text.replace("%s", name_machine()))
    probe.append(FAST_BFLOAT16)
    assert find_rates() == find_rates() == FAST_BFLOAT16


def test_a_home_that_cannot_be_written_is_measured_each_time(
    cache: Path, probe: list[dict[str, float]]
) -> None:
    cache.parent.parent.write_text("a file where the folder would be")
    probe += [FAST_BFLOAT16, SLOW_BFLOAT16]
    assert [find_rates(), find_rates()] == [FAST_BFLOAT16, SLOW_BFLOAT16]


def test_the_fastest_round_of_a_dtype_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = iter([10.0, 50.0, 40.0, 5.0])  # float32, bfloat16; again, beside another process
    monkeypatch.setattr(compute_dtype, "measure_flops", lambda device, dtype: next(measured))
    assert compute_dtype.measure_rates() == {"float32": 40.0, "bfloat16": 50.0}


@pytest.mark.parametrize("seconds, calls", [(0.001, 6), (3.0, 2)])
def test_a_slow_product_is_timed_once(
    seconds: float, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    worked: list[float] = []

    def work() -> None:
        worked.append(clock[0])
        clock[0] += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    assert median_seconds(work, "cpu") == pytest.approx(seconds)
    assert len(worked) == calls


@pytest.mark.parametrize(
    "capability, name", [((7, 0), "float16"), ((7, 5), "float16"), ((8, 0), "bfloat16"),
                         ((8, 9), "bfloat16"), ((9, 0), "bfloat16")],
)  # fmt: skip
def test_auto_on_a_gpu_is_bfloat16_where_it_computes_it(
    capability: tuple[int, int], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    chosen = choose_dtype("auto", "cuda")
    assert chosen.name == name and f"{capability[0]}.{capability[1]}" in chosen.reason


def test_an_interrupted_stage_keeps_its_dtype(
    cache: Path, probe: list[dict[str, float]], tmp_path: Path
) -> None:
    probe.append(FAST_BFLOAT16)
    assert keep_dtype("auto", "cpu", tmp_path).name == "bfloat16"
    cache.write_text(json.dumps({name_machine(): SLOW_BFLOAT16}))
    assert keep_dtype("auto", "cpu", tmp_path).name == "bfloat16"
    assert keep_dtype("auto", "cpu", tmp_path / "another").name == "float32"
