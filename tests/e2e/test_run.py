"""The main job, every stage real: what it leaves, what it skips, what it re-runs."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from edgetune.artifact import load_artifact, verify_artifact
from tests.e2e.conftest import start

STAGES = ["prepare", "tune", "distill", "merge", "quantize", "export", "bench"]
MEASURED = {
    "exact_match", "perplexity", "bits_per_byte", "kl_answer_tokens", "kl_answer_tokens_p99",
    "top1_answer_tokens", "ttft_ms_p50", "ttft_ms_p95", "tpot_ms_p50", "tpot_ms_p95",
    "prefill_tokens_per_s", "decode_tokens_per_s", "load_s", "peak_rss_bytes",
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a finished run."""
    out = tmp_path_factory.mktemp("runs") / "small"
    done = start(small_recipe, out, "--json")
    stdout, stderr = done.communicate(timeout=540)
    assert done.returncode == 0, stderr[-3000:]
    assert json.loads(stdout.splitlines()[-1])["verdict"] == "pass"
    return out


def manifest(out: Path) -> list[dict[str, Any]]:
    return list(json.loads((out / "manifest.json").read_text())["artifacts"])


def test_every_stage_left_a_whole_artifact(finished: Path) -> None:
    entries = manifest(finished)
    assert [entry["stage"] for entry in entries] == STAGES
    for entry in entries:
        assert verify_artifact(load_artifact(finished / entry["path"])) == []
    assert not list(finished.glob("*.part"))
    keys = {entry["stage"]: entry["key"] for entry in entries}
    assert next(e for e in entries if e["stage"] == "bench")["parents"]["export"] == keys["export"]


def test_the_report_holds_what_the_schema_promises(finished: Path) -> None:
    report = json.loads((finished / "report" / "report.json").read_text())
    assert report["schema"] == 2 and report["name"] == "small" and report["verdict"] == "pass"
    roles = [model["role"] for model in report["models"]]
    assert roles[:4] == ["base", "teacher", "baseline", "merged"] and roles[4:] == ["file"] * 5
    for model in report["models"]:
        assert {"name", "role", "format", "scheme", "path", "sha256", "bytes"} <= set(model)
        names = {m["name"] for m in model["measurements"]}
        to_teacher = {"kl_answer_tokens", "kl_answer_tokens_p99", "top1_answer_tokens"}
        assert names >= MEASURED - (to_teacher if model["role"] == "teacher" else set())
        if model["role"] == "file":
            assert {"kl_answer_tokens_to_merged", "top1_answer_tokens_to_merged"} <= names
        for measurement in model["measurements"]:
            assert {"name", "value", "unit", "n", "ci95", "where"} <= set(measurement)
            assert set(measurement["where"]) >= {"runtime", "device", "threads"}
    html = (finished / "report" / "report.html").read_text()
    assert "<svg" in html and 'src="http' not in html
    assert html.count("http-equiv") == html.count('http-equiv="Content-Security-Policy"') == 1
    assert (finished / "report" / "report.md").read_text().startswith("#")
    card = (finished / "report" / "MODEL_CARD.md").read_text()
    assert card.startswith("---\n")
    assert all(file["sha256"] in card and file["bits_per_weight"] > 2 for file in report["files"])


def test_lossless_files_equal_the_merged_model(finished: Path) -> None:
    facts = next(e for e in manifest(finished) if e["stage"] == "export")["facts"]
    checks = {file["name"]: file["checks"] for file in facts["files"]}
    for name in ("F32.gguf", "fp32.onnx"):
        assert checks[name]["kl_all_tokens"] <= 1e-5
        assert checks[name]["top1_all_tokens"] >= 0.999
        assert checks[name]["token_ids_equal"]
    assert all(gate["ok"] for gate in facts["gates"]) and len(facts["gates"]) >= 4


def test_a_second_run_skips_everything(finished: Path, small_recipe: Path) -> None:
    before = manifest(finished)
    done = start(small_recipe, finished)
    _, stderr = done.communicate(timeout=300)
    assert done.returncode == 0, stderr
    assert manifest(finished) == before
    assert stderr.count("done already") == len(STAGES)


def test_a_changed_knob_reruns_only_what_depends_on_it(finished: Path, small_recipe: Path) -> None:
    done = start(small_recipe, finished, "--set", "quantize.gguf=[Q8_0]", "--dry-run")
    stdout, _ = done.communicate(timeout=120)
    state = {
        line[2:].split(":")[0]: "done" in line for line in stdout.splitlines() if line[:2] == "# "
    }
    assert state == {
        "prepare": True, "tune": True, "distill": True, "merge": True,
        "quantize": False, "export": False, "bench": False,
    }  # fmt: skip


def test_a_damaged_artifact_is_made_again(finished: Path, small_recipe: Path) -> None:
    merged = next(finished.glob("merge-*"))
    weights = merged / "model" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = start(small_recipe, finished, "--dry-run")
    stdout, _ = done.communicate(timeout=120)
    assert "merge: to run" in stdout and "distill: done" in stdout
    weights.write_bytes(whole)


def test_a_failed_gate_is_exit_code_3(finished: Path, small_recipe: Path) -> None:
    gate = "report.gates=[{measurement: exact_match, models: merged, min: 2}]"
    done = start(small_recipe, finished, "--set", gate)
    _, stderr = done.communicate(timeout=300)
    assert done.returncode == 3, stderr
    assert "exact_match" in stderr and "Traceback" not in stderr
    report = json.loads((finished / "report" / "report.json").read_text())
    assert report["verdict"] == "fail"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_saves_and_exits_130(
    small_recipe: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "run"
    more = ("--set", "tune.max_steps=100000", "--set", "tune.save_every=100000")
    process = start(small_recipe, out, *more)
    log = out / "log.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and '"event": "train"' not in (
        log.read_text() if log.exists() else ""
    ):
        time.sleep(0.2)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr and "the checkpoint is saved" in stderr
    assert list(out.glob("tune-*.part/scratch/sft/checkpoint-*/sealed.json"))
