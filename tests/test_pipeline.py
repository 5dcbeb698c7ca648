"""The walk over the stages, with stages that write a file and say a word."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgetune import libraries, pipeline, stage_list
from edgetune.artifact import Artifact
from edgetune.errors import InputError, MachineFault
from edgetune.log import Log
from edgetune.models import hardware
from edgetune.recipe import BenchSection, Recipe, Sections
from edgetune.report.build import build_report
from edgetune.rundir import RunDir


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n')
    return path


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages that ran."""
    names: list[str] = []

    def function(stage: stage_list.Stage) -> Callable[..., dict[str, Any]]:
        def run(
            sections: Sections, inputs: dict[str, Artifact], out: Path, log: Log
        ) -> dict[str, Any]:
            names.append(stage.name)
            (out / "result").write_text(stage.name)
            log.warn(f"{stage.name} with {sections.dump().get(stage.name)}")
            return {}

        return run

    monkeypatch.setattr(stage_list.Stage, "function", property(function))
    return names


def make_recipe(rows: Path, **tune: Any) -> Recipe:
    return Recipe.model_validate(
        {"model": {"path": "embedded:base"}, "data": {"train": str(rows)},
         "tune": tune, "merge": {}}
    )  # fmt: skip


def execute(recipe: Recipe, run: RunDir) -> dict[str, Artifact]:
    run.path.mkdir(exist_ok=True)
    return pipeline.execute(recipe, {}, run, Log(run.log_path, quiet=True))


def test_what_was_edited_is_kept_aside(tmp_path: Path, rows: Path, made: list[str]) -> None:
    run, recipe = RunDir(tmp_path / "run"), make_recipe(rows)
    tuned = execute(recipe, run)["tune"].path
    for number in (1, 2):
        (tuned / "result").write_text(f"edit {number}")
        made.clear()
        execute(recipe, run)
        assert made == ["tune"]  # made of the same, its children are still right
        aside = tuned.with_name(f"{tuned.name}.damaged-{number}")
        assert (aside / "result").read_text() == f"edit {number}"
        assert (tuned / "result").read_text() == "tune"
    assert "damaged-2" in run.log_path.read_text()


def test_planning_writes_nothing(tmp_path: Path, rows: Path, made: list[str]) -> None:
    run, recipe = RunDir(tmp_path / "run"), make_recipe(rows)
    execute(recipe, run)
    (run.path / "manifest.json").unlink()
    assert all(step.artifact for step in pipeline.plan_run(recipe, run))
    assert not (run.path / "manifest.json").exists()
    execute(recipe, run)
    assert [entry["stage"] for entry in run.manifest()] == ["prepare", "tune", "merge"]


def test_the_report_warns_of_its_own_recipe_only(
    tmp_path: Path, rows: Path, made: list[str]
) -> None:
    run = RunDir(tmp_path / "run")
    execute(make_recipe(rows, rank=3), run)
    Log(run.log_path, quiet=True).warn("no file of that model")
    artifacts = execute(recipe := make_recipe(rows, rank=5), run)

    def warnings(recipe: Recipe, made: dict[str, Artifact]) -> list[str]:
        said = [w["text"] for w in build_report(recipe, made, run, {})["warnings"]]
        return [text for text in said if " with {" in text]  # by the stages of this test

    said = warnings(recipe, artifacts)
    assert len(said) == 2 and "'rank': 5" in said[0] and said[1].startswith("merge with")
    again = execute(first := make_recipe(rows, rank=3), run)  # nothing runs, all was said before
    said = warnings(first, again)
    assert len(said) == 2 and "'rank': 3" in said[0]
    assert "no file of that model" not in str(build_report(first, again, run, {})["warnings"])
    assert list(run.plan().values()) == [again[name].key for name in ("prepare", "tune", "merge")]


def test_an_equal_call_of_a_stage_looks_at_what_lies_there(
    tmp_path: Path, rows: Path, made: list[str]
) -> None:
    out, log = tmp_path / "out", Log(None, quiet=True)
    recipe = make_recipe(rows)
    pipeline.run_alone("tune", recipe, {}, out, log)
    pipeline.run_alone("tune", recipe, {}, out, log)
    assert made == ["tune"]
    (out / "result").write_text("edit")
    with pytest.raises(InputError, match="changed since: result"):
        pipeline.run_alone("tune", recipe, {}, out, log)
    with pytest.raises(InputError, match="not overwritten"):
        pipeline.run_alone("tune", make_recipe(rows, rank=2), {}, out, log)
    assert not (tmp_path / "out.lock").exists()


def test_several_processes_and_gpus_are_refused(
    tmp_path: Path, rows: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, recipe = RunDir(tmp_path / "run"), make_recipe(rows)
    log = Log(None, quiet=True)
    with monkeypatch.context() as patch:
        patch.setenv("WORLD_SIZE", "4")
        with pytest.raises(InputError, match="one of 4 processes"):
            execute(recipe, run)
        with pytest.raises(InputError, match="WORLD_SIZE"):
            pipeline.run_alone("tune", recipe, {}, tmp_path / "out", log)
        patch.setenv("WORLD_SIZE", "1")
        patch.setattr(hardware, "count_gpus", lambda: 2)
        with pytest.raises(InputError, match="2 GPUs are visible") as error:
            execute(recipe, run)
        assert "CUDA_VISIBLE_DEVICES=0" in error.value.hint
        assert made == []
        on_cpu = recipe.model_copy(
            update={"model": recipe.model.model_copy(update={"device": "cpu"})}
        )
        execute(on_cpu, run)
    assert made == ["prepare", "tune", "merge"]


def test_a_manifest_of_before_is_read(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"artifacts": [{"key": "k"}]}))
    assert run.manifest() == [{"key": "k"}] and run.plan() == {}
    run.start({"tune": "k"})
    assert run.manifest() == [{"key": "k"}] and run.plan() == {"tune": "k"}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (MemoryError(), "the memory does not suffice"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "the memory does not suffice"),
    ],
)
def test_a_full_machine_is_told_and_nothing_is_committed(
    error: Exception, said: str, tmp_path: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: Any) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(stage_list.Stage, "function", property(lambda stage: run))
    with pytest.raises(MachineFault, match=said):
        execute(make_recipe(rows), RunDir(tmp_path / "run"))
    assert RunDir(tmp_path / "run").manifest() == []


def test_what_makes_the_bytes_is_in_the_key(
    tmp_path: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "student.json"
    config.write_text("{}")
    code = tmp_path / "llama.cpp/conversion"
    code.mkdir(parents=True)
    (code / "llama.py").write_text("1")
    recipe = Recipe.model_validate(
        {"model": {"path": "embedded:base"}, "data": {"train": str(rows)}, "tune": {}, "merge": {},
         "distill": {"student": {"config": str(config)}, "train": "full"}, "quantize": {},
         "export": {}}
    )  # fmt: skip
    names = ("tune", "distill", "merge", "quantize", "export")

    def changed(action: Callable[[], Any]) -> list[str]:
        """Return which stages have another key behind ``action``."""
        before, _, after = (pipeline.plan_run(recipe, RunDir(tmp_path)), action(),
                            pipeline.plan_run(recipe, RunDir(tmp_path)))  # fmt: skip
        return [a.stage.name for a, b in zip(before, after, strict=True) if a.key != b.key]

    def upgrade(name: str) -> None:
        real = libraries._version
        monkeypatch.setattr(libraries, "_version", lambda n: "9" if n == name else real(n))

    assert changed(lambda: config.write_text('{"hidden_size": 8}')) == list(names[1:])
    root = str(code.parent)
    assert changed(lambda: monkeypatch.setenv("LLAMA_CPP_ROOT", root)) == list(names[3:])
    assert changed(lambda: (code / "llama.py").write_text("2")) == list(names[3:])
    assert changed(lambda: (code / "llama.pyc").write_text("2")) == []
    assert changed(lambda: upgrade("onnxruntime")) == ["export"]
    assert changed(lambda: upgrade("gguf")) == ["quantize", "export"]
    assert changed(lambda: upgrade("peft")) == list(names)


def test_what_a_stage_opens_is_recorded_by_its_name(
    tmp_path: Path, rows: Path, made: list[str]
) -> None:
    parents = execute(make_recipe(rows), RunDir(tmp_path / "run"))["prepare"].parents
    assert "source:train" in parents


def test_keys_that_only_grade_answers_run_no_stage_again(
    tmp_path: Path, rows: Path, made: list[str]
) -> None:
    run, recipe = RunDir(tmp_path / "run"), make_recipe(rows)

    def with_bench(**bench: Any) -> Recipe:
        return recipe.model_copy(update={"bench": BenchSection(**bench)})

    execute(with_bench(), run)
    assert made[-1] == "bench"
    made.clear()
    options = {"labels": ["a", "b"]}
    execute(with_bench(task="classification", task_options=options, slices=["lang"]), run)
    assert made == []
    execute(with_bench(task_rows=7), run)
    assert made == ["bench"]
