"""Suites are checked before any model is loaded: unknown, unsafe or distant things are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from edgetune.errors import InputError
from edgetune.lm_eval.tasks import read_suite

TASK: dict[str, Any] = {
    "task": "calls",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{text}}",
    "doc_to_choice": ["on", "off"],
    "doc_to_target": "label",
    "metric_list": [{"metric": "acc"}],
}
FUNCTION = "process_docs: !function code.keep\n"


def write(folder: Path, changes: dict[str, Any], more: str = "", name: str = "task.yaml") -> Path:
    (folder / "rows.jsonl").write_text('{"text": "a", "label": 0}\n', encoding="utf-8")
    task = {key: value for key, value in {**TASK, **changes}.items() if value is not None}
    (folder / name).write_text(yaml.safe_dump(task) + more, encoding="utf-8")
    return folder / name


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (task,) = read_suite(write(tmp_path, {}))
    assert task["dataset_kwargs"] == {"data_files": {"test": [str(tmp_path / "rows.jsonl")]}}
    assert {**task, "dataset_kwargs": TASK["dataset_kwargs"]} == TASK


def test_a_suite_lists_files_and_tasks(tmp_path: Path) -> None:
    write(tmp_path, {"task": "first"})
    suite = tmp_path / "suite.yaml"
    suite.write_text(yaml.safe_dump({"tasks": ["task.yaml", {**TASK, "task": "second"}]}))
    assert [task["task"] for task in read_suite(suite)] == ["first", "second"]
    suite.write_text(yaml.safe_dump({"tasks": ["task.yaml", "task.yaml"]}))
    with pytest.raises(InputError, match="two tasks are called 'first'"):
        read_suite(suite)


def test_includes_are_merged_and_do_not_circle(tmp_path: Path) -> None:
    write(tmp_path, {}, name="base.yaml")
    suite = tmp_path / "suite.yaml"
    suite.write_text("include: base.yaml\ntask: other\n")
    assert read_suite(suite)[0] == {**read_suite(tmp_path / "base.yaml")[0], "task": "other"}
    suite.write_text("include: suite.yaml\ntask: other\n")
    with pytest.raises(InputError, match="the file includes itself"):
        read_suite(suite)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"doc_to_txt": "x"}, r"unknown key 'doc_to_txt' \(did you mean 'doc_to_text'"),
        ({"task": None}, "task: NAME is missing"),
        ({"use_prompt": "promptsource:x"}, "use_prompt is not supported"),
        ({"unsafe_code": True}, "the task runs code that the model wrote"),
        ({"process_results": "f"}, "process_results is no function"),
        ({"output_type": "multiple_choise"}, "did you mean 'multiple_choice'"),
        ({"dataset_path": "super_glue"}, "dataset_path 'super_glue' is not known here"),
        ({"dataset_kwargs": {"trust_remote_code": True}}, "unknown key 'dataset_kwargs.trust"),
        ({"dataset_kwargs": {}}, "data_files names no files"),
        ({"dataset_kwargs": {"data_files": {"test": "https://x.org/a"}}}, "no such local file"),
        ({"test_split": "tset"}, r"test_split 'tset' is not known here \(did you mean 'test'"),
        ({"test_split": None}, "no test_split and no validation_split"),
        ({"num_fewshot": 2}, "num_fewshot is 2, and no split"),
        ({"metric_list": [{"metric": "pass@1"}]}, "metric 'pass@1' is not known here"),
        ({"metric_list": [{"metric": "acc", "hf_evaluate": True}]}, "would be downloaded"),
        ({"metric_list": [{"metric": "acc", "aggregation": "men"}]}, "did you mean 'mean'"),
        ({"filter_list": [{"name": "x", "filter": [{"function": "regx"}]}]}, "mean 'regex'"),
        ({"generation_kwargs": {"do_sample": True}}, "the task samples its answers"),
    ],
)
def test_refused_before_any_work(tmp_path: Path, changes: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=what):
        read_suite(write(tmp_path, changes))


def test_functions_run_only_where_they_are_allowed(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "code.py").write_text(f"open({str(mark)!r}, 'w')\ndef keep(x): return x\n")
    path = write(tmp_path, {}, FUNCTION)
    with pytest.raises(InputError, match=r"!function code\.keep would run Python code") as refused:
        read_suite(path)
    assert "--run-functions" in refused.value.hint and not mark.exists()
    (task,) = read_suite(path, run_functions=True)
    assert task["process_docs"](3) == 3 and mark.exists()


def test_other_tags_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, {}, "metadata: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(InputError, match="not readable as YAML"):
        read_suite(path, run_functions=True)
