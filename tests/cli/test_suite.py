"""``edgetune bench --suite``: from the command line to scores, offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgetune.cli import cli
from edgetune.errors import InputError
from tests.conftest import make_model
from tests.model_files import make_gguf

WORDS = ["light", "kitchen", "forty", "percent"]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A choice, a perplexity and an answer, over four rows."""
    rows = [{"text": f"turn the {word}", "label": n % 2, "word": word}
            for n, word in enumerate(WORDS)]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
            "test_split": "test"}  # fmt: skip
    tasks: list[dict[str, Any]] = [
        {"task": "choice", "output_type": "multiple_choice", "doc_to_text": "{{text}}",
         "doc_to_choice": ["light", "level"], "doc_to_target": "label",
         "metric_list": [{"metric": "acc"}]},
        {"task": "rolling", "output_type": "loglikelihood_rolling", "doc_to_text": "",
         "doc_to_target": "{{text}}", "metric_list": [{"metric": "bits_per_byte"}]},
        {"task": "answer", "doc_to_text": "{{text}}", "doc_to_target": "{{word}}",
         "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4},
         "metric_list": [{"metric": "exact_match"}]},
    ]  # fmt: skip
    path = tmp_path / "suite.yaml"
    path.write_text(json.dumps({"tasks": [{**data, **task} for task in tasks]}))
    return path


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["bench", *map(str, arguments)])


def test_scores_of_a_file_and_its_model(suite: Path, tiny_model: Path, tmp_path: Path) -> None:
    file, out = make_gguf(tiny_model), tmp_path / "out"
    done = bench("--suite", suite, "--model", tiny_model, file, "--out", out, "--json", "--quiet")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout.splitlines()[-1])
    found = {(one["model"], one["task"]): one for one in said["scores"]}
    assert {task for _, task in found} == {"choice", "rolling", "answer"}
    for task in ("choice", "rolling", "answer"):
        first, second = found[str(tiny_model), task], found[file.name, task]
        assert first["n"] == second["n"] == 4
        assert second["value"] == pytest.approx(first["value"], abs=1e-5)
    assert found[file.name, "choice"]["stderr"] is not None
    assert json.loads((out / "suite.json").read_text())["scores"] == said["scores"]
    kept = sorted(out.glob("samples-1-*.jsonl"))
    assert [len(one.read_text().splitlines()) for one in kept] == [4, 4, 4]


def test_models_are_compared_row_by_row(suite: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Of accuracies, which are means over rows; not of bits per byte."""
    file, other = make_gguf(tiny_model), make_model(tmp_path / "other", seed=3)
    done = bench("--suite", suite, "--model", tiny_model, file, other, "--json", "--quiet",
                 "--out", tmp_path / "out")  # fmt: skip
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout.splitlines()[-1])
    names = [str(tiny_model), file.name, other.name]
    pairs = [(names[0], names[1]), (names[0], names[2]), (names[1], names[2])]
    values = {(one["model"], one["task"]): one["value"] for one in said["scores"]}
    for task, metric in (("choice", "acc"), ("answer", "exact_match")):
        found = [
            one for one in said["differences"] if (one["task"], one["metric"]) == (task, metric)
        ]
        assert [(one["reference"], one["candidate"]) for one in found] == pairs
        for one in found:
            less = values[one["candidate"], task] - values[one["reference"], task]
            assert one["difference"] == pytest.approx(less) and one["n"] == 4
            low, high = one["ci95"]
            assert low <= one["difference"] <= high and one["p_value"] <= one["p_adjusted"] <= 1
        assert found[0]["difference"] == 0 and found[0]["p_value"] == 1
    assert not any(one["task"] == "rolling" for one in said["differences"])
    kept = json.loads((tmp_path / "out" / "suite.json").read_text())
    assert kept["differences"] == said["differences"]
    shown = bench("--suite", suite, "--model", tiny_model, file, "--quiet").stdout
    assert "p, Holm" in shown and "difference over the same rows" in shown
    alone = bench("--suite", suite, "--model", tiny_model, "--quiet").stdout
    assert "standard error" in alone and "p, Holm" not in alone


def test_nothing_is_asked_of_git_and_pip(
    suite: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lm-eval would, for records that nothing reads: git's complaint would be shown."""
    started = []
    monkeypatch.setattr("subprocess.Popen", lambda *command, **_: started.append(command))
    done = bench("--suite", suite, "--model", tiny_model, "--limit", 1, "--quiet")
    assert done.exit_code == 0, done.output
    assert started == []


def test_dry_run_and_limits_of_the_options(suite: Path, tiny_model: Path) -> None:
    plan = bench("--suite", suite, "--model", tiny_model, "--dry-run")
    assert [line.split(":")[0] for line in plan.stdout.splitlines()] == [
        "choice", "rolling", "answer",
    ]  # fmt: skip
    for more, what in (
        (["--data", suite], "--suite has no use for --data"),
        (["--set", "seed=1"], "--suite has no use for --set"),
        (["--teacher", tiny_model], "--suite runs no adapter"),
    ):
        done = bench("--suite", suite, "--model", tiny_model, *more)
        assert isinstance(done.exception, InputError) and what in str(done.exception)
    for flag in (["--chat"], ["--limit", 3], ["--run-functions"]):
        done = bench("--model", tiny_model, *flag)
        assert f"{flag[0]} belongs to --suite" in str(done.exception)
    assert "--model is missing" in str(bench("--suite", suite).exception)


def test_templates_reach_no_python(suite: Path, tiny_model: Path) -> None:
    suite.write_text(suite.read_text().replace("{{text}}", "{{text.__class__.__mro__}}"))
    done = bench("--suite", suite, make_gguf(tiny_model), "--quiet")
    assert isinstance(done.exception, InputError)
    assert "SecurityError" in str(done.exception) or "unsafe" in str(done.exception)
