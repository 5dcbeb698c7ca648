"""quantize for a budget of memory or time: files are run here, and what ships is what was run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgetune.artifact import Artifact, load_artifact
from edgetune.errors import GateFailed
from edgetune.facts import to_json
from edgetune.measure.footprint import measure_file
from edgetune.quantize.plan import read_plan
from edgetune.quantize.search.device import ROOM
from edgetune.recipe import Recipe, Requests, Sections
from edgetune.stages import quantize
from tests.conftest import make_model, write_device_rows
from tests.stages.test_quantize import LOG, export_files, make_recipe, merge

BENCH = {"prompt_tokens": 16, "new_tokens": 4, "repeats": 2, "threads": 1}


def quantized(recipe: Recipe, merged: Artifact, out: Path) -> Artifact:
    out.mkdir()
    sections = Sections(recipe, ("file_name", "device", "data", "quantize", "requests"))
    facts = to_json(quantize.run(sections, {"merge": merged}, out, LOG))
    return Artifact(out, "plan", "quantize", "key", facts=facts)


def recipe_for(rows: Path, *budgets: str, **settings: Any) -> Recipe:
    section = {
        "gguf": [], "onnx": [], "budget": list(budgets), "calibration_rows": 16,
        "search_tokens": 128, **settings,
    }  # fmt: skip
    return make_recipe(rows, quantize=section, export={"check_rows": 4}, bench=BENCH)


def test_both_containers_are_run_and_exported(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    """Budgets that every file meets, so that no timing decides: the best types there are."""
    recipe = recipe_for(device_rows, "ram=2GB", "onnx:tpot=10s")
    merged = merge(tiny_model, recipe, tmp_path / "merge")
    plan = quantized(recipe, merged, tmp_path / "plan")
    (ram,), (tpot,) = (plan.facts[key]["results"] for key in ("search", "search_onnx"))
    assert (ram["name"], ram["budget"], ram["runtime"]) == ("auto-ram2GB", "ram", "llama.cpp")
    assert (tpot["name"], tpot["budget"], tpot["runtime"]) == (
        "auto-tpot10s", "tpot", "onnxruntime",
    )  # fmt: skip
    for row in (ram, tpot):
        assert row["threads"] == 1 and row["runs"] == 3 and row["tpot_ms"] > 0
        assert 10e6 < row["before_rss_bytes"] < row["peak_rss_bytes"] < 400e6
    found = read_plan(plan.path)
    assert found.gguf["auto-ram2GB"]["blk.0.ffn_up.weight"] == "F16"
    assert found.onnx["auto-tpot10s"]["types"]["/model/layers.0/mlp/up_proj/MatMul"] == "Q8_0"
    files = export_files(recipe, merged, plan, tmp_path / "files")
    assert set(files) == {"auto-ram2GB.gguf", "auto-tpot10s.onnx"}
    assert files["auto-ram2GB.gguf"]["bytes"] < ram["bytes"] + 1000  # the header of a real name


def test_a_budget_nothing_meets_ends_with_what_is_possible(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    recipe = recipe_for(device_rows, "ram=1MB")
    merged = merge(tiny_model, recipe, tmp_path / "merge")
    message = r"smallest file possible takes \d\d\.\d\d MB, \d\d\.\d\d MB over the budget"
    with pytest.raises(GateFailed, match=message) as caught:
        quantized(recipe, merged, tmp_path / "plan")
    assert "are in use before a file is opened" in caught.value.hint


def test_bench_s_settings_are_part_of_the_key_only_where_they_are_read(device_rows: Path) -> None:
    with_budget, without = (recipe_for(device_rows, *one) for one in (["tpot=1s"], ["bits=4"]))
    assert with_budget.requests == Requests.model_validate(BENCH)
    assert without.requests is None
    plain = make_recipe(device_rows, quantize={"budget": ["onnx:ram=1GB"]})
    assert plain.requests == Requests()


@pytest.mark.slow
def test_the_picked_file_meets_its_memory_when_run_again(device_rows: Path, tmp_path: Path) -> None:
    """A budget between the largest and the smallest file, kept by the exported one."""
    model = make_model(tmp_path / "model", layers=4, hidden=512)
    recipe = recipe_for(device_rows, "ram=2GB", "bits=2.9")
    merged = merge(model, recipe, tmp_path / "merge")
    first = quantized(recipe, merged, tmp_path / "first")
    best, smallest = first.facts["search"]["results"]
    files = export_files(recipe, merged, first, tmp_path / "first-files")
    requests, prompt = Requests.model_validate(BENCH), list(range(5, 21))

    def peak(folder: str, file: dict[str, Any]) -> int:
        return measure_file(tmp_path / folder / file["path"], requests, prompt).peak_rss_bytes

    low = peak("first-files", files["auto-2.9bpw.gguf"])
    budget = (best["peak_rss_bytes"] + 2 * low) // 3
    assert best["peak_rss_bytes"] - low > 5e6
    recipe = recipe_for(device_rows, f"ram={budget}B")
    plan = quantized(recipe, merged, tmp_path / "plan")
    (found,) = plan.facts["search"]["results"]
    assert found["peak_rss_bytes"] <= ROOM["ram"] * budget
    assert best["kl_measured"] < found["kl_measured"] < smallest["kl_measured"]
    files = export_files(recipe, merged, plan, tmp_path / "files")
    again = [peak("files", files[f"auto-ram{budget}B.gguf"]) for _ in range(3)]
    assert max(again) <= budget


@pytest.mark.slow
def test_killed_while_files_are_run(tiny_model: Path, tmp_path: Path) -> None:
    rows = write_device_rows(tmp_path / "rows.jsonl")
    words = [
        sys.executable, "-m", "edgetune", "quantize", "--model", tiny_model, "--data", rows,
        "--max-length", "48", "--budget", "ram=2GB", "--set", "quantize.gguf=[]", "--set",
        "quantize.onnx=[]", *(w for k, v in BENCH.items() for w in ("--set", f"bench.{k}={v}")),
    ]  # fmt: skip
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    subprocess.run([*words, "--out", alone], check=True, capture_output=True)
    process = subprocess.Popen([*words, "--out", killed], stderr=subprocess.DEVNULL)
    trials = killed.with_name("killed.part") / "scratch" / "trials"
    while process.poll() is None and not any(trials.glob("3*")):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert any(trials.glob("*.gguf"))
    subprocess.run([*words, "--out", killed], check=True, capture_output=True)
    assert (killed / "plan.json").read_bytes() == (alone / "plan.json").read_bytes()
    assert not (killed / "scratch").exists()
    (found,) = load_artifact(killed).facts["search"]["results"]
    assert found["peak_rss_bytes"] < 2e9
