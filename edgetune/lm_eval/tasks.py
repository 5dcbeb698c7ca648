"""Suites: lm-eval tasks in local YAML files, over local rows, checked before any model is loaded.

A task file is read as data. ``!function`` tags, which run Python, and tasks that run generated code
are refused; templates are rendered in Jinja's sandbox (:mod:`edgetune.lm_eval.suite`).
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from lm_eval import filters  # noqa: F401 - imported, it fills its registry
from lm_eval.api import metrics  # noqa: F401 - so do these
from lm_eval.api.registry import aggregation_registry, filter_registry, metric_registry
from lm_eval.config.task import TaskConfig
from lm_eval.models.utils import normalize_gen_kwargs

from edgetune.errors import InputError, nearest
from edgetune.lm_eval.generation import check_greedy

#: Builders of the package ``datasets`` that read local files, and the settings that each may have.
FORMATS = ("json", "csv", "parquet", "text")
SETTINGS = ("data_files", "field", "sep", "delimiter", "column_names", "encoding")
KINDS = ("multiple_choice", "loglikelihood", "loglikelihood_rolling", "generate_until")
SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")
#: Keys that only a function can be the value of.
FUNCTIONS = ("process_docs", "process_results")
_REFUSED = {
    "custom_dataset": "give the rows as dataset_kwargs.data_files",
    "use_prompt": "write the prompt as doc_to_text",
    "doc_to_image": "models here read text",
    "doc_to_audio": "models here read text",
}
_KEYS = {one.name for one in dataclasses.fields(TaskConfig)} - set(_REFUSED)

Task = dict[str, Any]


def read_suite(path: Path, run_functions: bool = False) -> list[Task]:
    """Return the settings of each task of a suite.

    Args:
        path: one lm-eval task, or ``tasks:`` with a list of files and of tasks.
        run_functions: let ``!function`` tags run the Python beside the file.

    Raises:
        InputError: a file that cannot be read, an unknown key or name, data that is not local, a
            function, or a task that samples or runs code.
    """
    content = _read_yaml(path, run_functions)
    given = content["tasks"] if set(content) == {"tasks"} else [content]
    if not isinstance(given, list) or not given:
        raise InputError("tasks is no list of tasks", where=str(path))
    tasks: list[Task] = []
    for one in given:
        place = path if isinstance(one, dict) else path.parent / str(one)
        task = one if isinstance(one, dict) else _read_yaml(place, run_functions)
        tasks.append(_check_task(task, place))
    names = [task["task"] for task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two tasks are called '{name}'", where=str(path))
    return tasks


def _read_yaml(path: Path, run_functions: bool, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a file, with those that it includes."""
    if path.resolve() in seen:
        raise InputError("the file includes itself", where=str(path))

    class Loader(yaml.SafeLoader):
        pass

    def function(_: Any, node: yaml.ScalarNode) -> Any:
        if not run_functions:
            raise InputError(
                f"!function {node.value} would run Python code from beside the file",
                where=f"{path}:{node.start_mark.line + 1}",
                hint="read that code, then allow it with --run-functions",
            )
        return _load_function(str(node.value), path)

    Loader.add_constructor("!function", function)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"not readable as YAML: {error}", where=str(path)) from error
    if not isinstance(content, dict):
        raise InputError("not a mapping of keys", where=str(path), hint="an lm-eval task is one")
    includes = content.pop("include", [])
    merged: dict[str, Any] = {}
    for other in [includes] if isinstance(includes, str) else includes:
        inner = (*seen, path.resolve())
        merged.update(_read_yaml(path.parent / str(other), run_functions, inner))
    return {**merged, **content}


def _load_function(name: str, path: Path) -> Callable[..., Any]:
    """Return ``module.function`` of a Python file beside a task's."""
    stem, _, attribute = name.rpartition(".")
    file = path.parent / f"{stem}.py"
    if not stem.isidentifier() or not file.is_file():
        raise InputError(f"no Python file for !function {name}", where=str(path), hint=str(file))
    spec = importlib.util.spec_from_file_location(f"edgetune_suite_{stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[..., Any] | None = getattr(module, attribute, None)
    if not callable(function):
        raise InputError(f"{file.name} has no function '{attribute}'", where=str(path))
    return function


def _check_task(task: Task, path: Path) -> Task:
    """Return a task with the paths of its data made whole."""
    where = str(path)
    for key in task:
        if key in _REFUSED:
            raise InputError(f"{key} is not supported", where=where, hint=_REFUSED[key])
        if key not in _KEYS:
            raise InputError(f"unknown key '{key}'{nearest(key, _KEYS)}", where=where)
    if not isinstance(task.get("task"), str):
        raise InputError("task: NAME is missing", where=where)
    where = f"{where}: {task['task']}"
    if task.get("unsafe_code"):
        raise InputError(
            "the task runs code that the model wrote",
            where=where,
            hint="edgetune runs none; use lm-eval in a container",
        )
    for key in FUNCTIONS:
        if task.get(key) is not None and not callable(task[key]):
            raise InputError(f"{key} is no function", where=where, hint="!function file.name")
    _check_choice(task.get("output_type", "generate_until"), KINDS, "output_type", where)
    settings = task.get("generation_kwargs")
    if settings is not None:
        check_greedy(normalize_gen_kwargs(settings), where)
    _check_metrics(task, where)
    checked = dict(task)
    checked["dataset_kwargs"] = _check_data(task, path, where)
    return checked


def _check_data(task: Task, path: Path, where: str) -> dict[str, Any]:
    """Return the settings of a task's data, with the paths of its files made whole."""
    _check_choice(task.get("dataset_path"), FORMATS, "dataset_path", where)
    settings = dict(task.get("dataset_kwargs") or {})
    for key in settings:
        if key not in SETTINGS:
            raise InputError(f"unknown key 'dataset_kwargs.{key}'{nearest(key, SETTINGS)}",
                             where=where, hint=f"there are {', '.join(SETTINGS)}")  # fmt: skip
    files = settings.get("data_files")
    if not isinstance(files, Mapping) or not files:
        raise InputError(
            "dataset_kwargs.data_files names no files",
            where=where,
            hint="data_files: {test: rows.jsonl}",
        )
    found = {}
    for split, names in files.items():
        listed = [names] if isinstance(names, str) else names
        found[split] = [_find_file(name, path, where) for name in listed]
    settings["data_files"] = found
    for key in SPLITS:
        if task.get(key) is not None:
            _check_choice(task[key], list(files), key, where)
    if not task.get("test_split") and not task.get("validation_split"):
        raise InputError("no test_split and no validation_split", where=where)
    if task.get("num_fewshot") and not any(task.get(key) for key in SPLITS if key != "test_split"):
        raise InputError(
            f"num_fewshot is {task['num_fewshot']}, and no split to take the examples from",
            where=where,
            hint="set fewshot_split",
        )
    return settings


def _find_file(name: Any, path: Path, where: str) -> str:
    file = path.parent / Path(str(name)).expanduser()
    if not file.is_file():
        raise InputError(
            f"no such local file: {name}", where=where, hint="paths are relative to the task's file"
        )
    return str(file.resolve())


def _check_metrics(task: Task, where: str) -> None:
    for metric in task.get("metric_list") or []:
        name = metric.get("metric") if isinstance(metric, dict) else metric
        if callable(name):
            continue
        if metric.get("hf_evaluate") if isinstance(metric, dict) else True:
            raise InputError(
                f"metric {name} would be downloaded", where=where, hint="leave out hf_evaluate"
            )
        # A metric that process_results gives is known by the task alone.
        if task.get("process_results") is None:
            _check_choice(name, metric_registry, "metric", where)
        if not callable(metric.get("aggregation")) and metric.get("aggregation") is not None:
            _check_choice(metric["aggregation"], aggregation_registry, "aggregation", where)
    for chain in task.get("filter_list") or []:
        for step in chain.get("filter", []):
            _check_choice(step.get("function"), filter_registry, "filter", where)


def _check_choice(value: Any, valid: Any, what: str, where: str) -> None:
    """Refuse a name that is none of some."""
    if value in list(valid):
        return
    hint = f"there are {', '.join(sorted(map(str, valid)))}"
    raise InputError(
        f"{what} '{value}' is not known here{nearest(str(value), map(str, valid))}",
        where=where,
        hint=hint,
    )
