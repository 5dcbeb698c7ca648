"""The report holds what the artifacts say, in the form that was promised."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

from edgetune.errors import InputError
from edgetune.recipe import ReportSection
from edgetune.report.build import SCHEMA, write_report
from edgetune.report.format import size, value_of
from edgetune.report.terminal import print_summary

from .conftest import SampleRun


def test_report_json_keeps_its_schema(sample: SampleRun, tmp_path: Path) -> None:
    write_report(sample.report(), tmp_path / "report")
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["schema"] == SCHEMA
    assert (report["name"], report["verdict"]) == ("quickstart", "pass")
    assert report["models"] == sample.models
    assert [gate["ok"] for gate in report["gates"]] == [True, True]
    assert set(report["gates"][0]) == {"name", "limit", "value", "ok"}
    assert report["machine"]["cores"] == 2
    assert report["recipe"]["tune"]["rank"] == 16
    lineage = {one["stage"]: one for one in report["lineage"]}
    assert lineage["distill"]["parents"] == {"tune": lineage["tune"]["key"]}
    assert lineage["merge"]["path"] == f"merge-{lineage['merge']['key'][:8]}"


def test_what_stages_left_behind_is_found(sample: SampleRun) -> None:
    report = sample.report()
    # The curve of a run that was killed ends in half a line.
    assert [curve["role"] for curve in report["curves"]] == ["teacher", "student", "baseline"]
    assert len(report["curves"][0]["points"]) == 72
    assert report["warnings"] == [{"stage": "tune", "text": "3 rows were cut <b>off</b>"}]
    assert report["merge"]["chosen"] == "dequantized"
    assert {one["file"] for one in report["fallbacks"]} == {"quickstart-Q6_K.gguf"}
    assert report["refused"][0]["format"] == "onnx"
    assert report["distillation"]["verdict"] == "won"


def test_failed_gate_fails_the_verdict(sample: SampleRun) -> None:
    sample.artifacts["export"].facts["gates"][0]["ok"] = False
    report = sample.report()
    assert report["verdict"] == "fail"
    stream = io.StringIO()
    print_summary(report, stream)
    assert "gate failed: F32 GGUF against the merged model, KL" in stream.getvalue()
    assert "Q4_K_M gguf" in stream.getvalue()


def test_a_narrow_terminal_cuts_no_number(
    sample: SampleRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = sample.report()
    wide, narrow = io.StringIO(), io.StringIO()
    monkeypatch.setenv("COLUMNS", "120")
    print_summary(report, wide)
    report["models"][-1]["name"] = "a-name-that-no-terminal-has-room-for.gguf"
    monkeypatch.setenv("COLUMNS", "70")
    print_summary(report, narrow)
    for model in report["models"]:
        memory = size(value_of(model, "peak_rss_bytes"))
        assert sum(line.rstrip().endswith(memory) for line in narrow.getvalue().splitlines()) > 0
    assert "…" not in wide.getvalue()
    table = [line for line in narrow.getvalue().splitlines() if "%" in line][1:]
    assert all(line.find("…") < 30 for line in table) and max(map(len, table)) <= 70


def test_a_model_of_two_devices_has_two_rows_and_one_of_none_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = SampleRun(tmp_path / "run")
    teacher, file = sample.models[1], sample.models[9]
    for one in list(teacher["measurements"]):
        where = {**one["where"], "device": "cuda"}
        value = 3 * one["value"] if one["name"] == "decode_tokens_per_s" else one["value"]
        teacher["measurements"].append({**one, "value": value, "where": where})
    teacher["measurements"].append(
        {"name": "peak_vram_bytes", "value": 7.25e9, "unit": "bytes", "n": 1, "ci95": None,
         "where": {"runtime": "torch", "device": "cuda", "threads": 2, "vram": "nvml_process"}}
    )  # fmt: skip
    file["not_measured"] = [{"device": "cuda", "why": "no GPU <build>; build it"}]
    report = sample.finish().report()
    stream = io.StringIO()
    monkeypatch.setenv("COLUMNS", "120")
    print_summary(report, stream)
    lines = stream.getvalue().splitlines()
    (on_gpu,) = [line for line in lines if "teacher (cuda)" in line]
    assert "288" in on_gpu and "7.25" in on_gpu and "GPU mem" in stream.getvalue()
    (on_cpu,) = [line for line in lines if line.startswith("teacher ") and "cuda" not in line]
    assert " 96" in on_cpu
    reason = "was not measured on cuda: no GPU <build>; build it."
    assert reason in " ".join(stream.getvalue().split())
    write_report(report, tmp_path / "pages")
    pages = {path.name: path.read_text() for path in (tmp_path / "pages").iterdir()}
    assert "torch, cuda" in pages["report.md"] and "Peak GPU memory" in pages["report.md"]
    assert "no GPU &lt;build&gt;" in pages["report.html"]


def test_failed_gates_come_before_the_models(sample: SampleRun, tmp_path: Path) -> None:
    write_report(sample.report(), tmp_path / "whole")
    sample.artifacts["export"].facts["gates"][0]["ok"] = False
    write_report(sample.report(), tmp_path / "failed")
    for name, title in (("report.md", "## {}\n"), ("report.html", "<h2>{}</h2>")):
        whole = (tmp_path / "whole" / name).read_text()
        failed = (tmp_path / "failed" / name).read_text()
        assert title.format("Failed gates") not in whole
        assert whole.index(title.format("Models")) < whole.index(title.format("Gates"))
        assert failed.index(title.format("Failed gates")) < failed.index(title.format("Models"))


def test_runs_that_stop_early_have_a_report(sample: SampleRun, tmp_path: Path) -> None:
    sample.artifacts = {"tune": sample.artifacts["tune"]}
    report = sample.report()
    write_report(report, tmp_path / "early")
    assert report["models"] == []
    assert report["distillation"] is None
    assert report["verdict"] == "fail"  # the recipe's gate was not measured
    assert "No file was measured" in (tmp_path / "early" / "report.md").read_text()


def test_unreadable_measurements(sample: SampleRun) -> None:
    (sample.artifacts["bench"].path / "measurements.json").write_text("{")
    with pytest.raises(InputError, match="measurements cannot be read"):
        sample.report()


def test_markdown_tables_are_whole(sample: SampleRun, tmp_path: Path) -> None:
    write_report(sample.report(), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# quickstart: pass\n\nQ5_K_M perhaps keeps the score in 4.21")
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.M)
    assert len(tables) == 4  # gates, models, chain, lineage
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "| quickstart-Q4_0.gguf (GGUF Q4_0 · llama.cpp, cpu) |" in text


def test_other_caches_have_a_table_of_their_own(sample: SampleRun, tmp_path: Path) -> None:
    write_report(sample.report(), tmp_path / "without")
    for name in ("report.md", "report.html"):
        assert "KV cache" not in (tmp_path / "without" / name).read_text()
    model = sample.models[8]
    figures = {"exact_match": 0.901, "kl_answer_tokens": 0.0555, "decode_tokens_per_s": 1234.0}
    where = {**model["measurements"][0]["where"], "kv_cache": "q8_0"}
    model["measurements"] += [
        {"name": name, "value": value, "unit": "", "n": 300, "ci95": None, "where": where}
        for name, value in figures.items()
    ]
    artifact = sample.artifacts["bench"]
    (artifact.path / "measurements.json").write_text(json.dumps({"models": sample.models}))
    gate = {"measurement": "exact_match", "models": "*Q5_K_M*", "min": 0.94}
    sample.recipe = sample.recipe.model_copy(
        update={"report": ReportSection.model_validate({"gates": [gate]})}
    )
    report = sample.report()
    assert report["gates"][-1]["ok"], "a gate is not held against another cache"
    write_report(report, tmp_path / "with")
    text = (tmp_path / "with" / "report.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| quickstart-Q5_K_M.gguf |")]
    assert len(rows) == 2
    assert "| f16 | 94.3" in rows[0] and "0.0447" in rows[0]
    assert "| q8_0 | 90.1" in rows[1] and "0.0555" in rows[1] and "1,234" in rows[1]
    assert '<td data-label="KV cache">q8_0</td>' in (tmp_path / "with/report.html").read_text()
