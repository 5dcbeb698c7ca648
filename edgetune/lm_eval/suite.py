"""Runs suites of lm-eval tasks on model files, offline."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import lm_eval
from jinja2 import BaseLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lm_eval import evaluator
from lm_eval import utils as lm_eval_utils
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

from edgetune.errors import EdgetuneError, InputError
from edgetune.lm_eval.model import EdgetuneLM
from edgetune.lm_eval.tasks import Task

VERSION: str = lm_eval.__version__
#: Resamplings for the standard error of a metric that has no formula for it.
RESAMPLINGS = 1000


@dataclass(frozen=True)
class Score:
    """One metric of one model on one task.

    Attributes:
        model: its name.
        task: the task's name.
        metric: lm-eval's name of it.
        filter: how answers were made ready; ``none``.
        value: as lm-eval computes it.
        stderr: its standard error; None where lm-eval gives none.
        n: rows.
        higher_is_better: None where lm-eval does not say.
    """

    model: str
    task: str
    metric: str
    filter: str
    value: float
    stderr: float | None
    n: int
    higher_is_better: bool | None


@dataclass(frozen=True)
class SuiteRun:
    """What a suite gives.

    Attributes:
        scores: by model, then task.
        samples: lm-eval's record of each row, by model and task.
    """

    scores: list[Score]
    samples: dict[str, dict[str, list[dict[str, Any]]]]


def run_suite(
    models: Mapping[str, Path],
    tasks: Sequence[Task],
    device: str = "cpu",
    chat: bool = False,
    limit: int | None = None,
    quiet: bool = False,
) -> SuiteRun:
    """Run tasks on models, one model in memory at a time.

    Args:
        models: path of each by its name.
        tasks: as :func:`edgetune.lm_eval.tasks.read_suite` returns them.
        device: ``cpu`` or ``cuda``.
        chat: put prompts into the chat template of each file.
        limit: rows of each task; None is all.
        quiet: show no progress.

    Raises:
        InputError: a task that does not fit its rows, or a model that cannot be loaded.
    """
    scores: list[Score] = []
    samples: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with tempfile.TemporaryDirectory() as cache, _sandbox(), _silence(quiet), _no_environment():
        for name, path in models.items():
            built = [_build(task, cache) for task in tasks]
            model = EdgetuneLM(path=path, device=device)
            try:
                said = _evaluate(model, built, chat, limit)
            finally:
                model.close()
            scores += _scores(name, said)
            samples[name] = said["samples"]
    return SuiteRun(scores, samples)


def _evaluate(model: EdgetuneLM, tasks: list[Any], chat: bool, limit: int | None) -> dict[str, Any]:
    try:
        said = lm_eval.simple_evaluate(
            model=model,
            tasks=tasks,
            task_manager=TaskManager(include_defaults=False),
            apply_chat_template=chat,
            limit=limit,
            bootstrap_iters=RESAMPLINGS,
            log_samples=True,
        )
    except EdgetuneError:
        raise
    except Exception as error:  # lm-eval's are of every kind: a column, an index, a template
        raise InputError(
            f"lm-eval cannot run the suite: {type(error).__name__}: {error}",
            where=str(model.path),
            hint="compare the tasks' templates with the columns of their rows",
        ) from error
    return dict(said)


def _build(task: Task, cache: str) -> Any:
    """Return lm-eval's task over local rows."""
    settings = dict(task)
    rows = settings.pop("dataset_kwargs")
    load = partial(_load_rows, settings["dataset_path"], rows, cache)
    try:
        return ConfigurableTask(config={**settings, "custom_dataset": load})
    except Exception as error:  # lm-eval's are of every kind: a column, an index, a template
        raise InputError(
            f"lm-eval cannot make this task: {type(error).__name__}: {error}",
            where=str(task["task"]),
            hint="compare its templates with the columns of its rows",
        ) from error


def _load_rows(builder: str, settings: dict[str, Any], cache: str, **_: Any) -> Any:
    """Read local files; the copy that ``datasets`` makes goes with the run."""
    return datasets.load_dataset(builder, cache_dir=cache, **settings)


def _scores(model: str, said: Mapping[str, Any]) -> Iterator[Score]:
    """Yield lm-eval's results one by one; ``metric,filter`` is how it names them."""
    for task, results in said["results"].items():
        better = said.get("higher_is_better", {}).get(task, {})
        rows = int(said["n-samples"][task]["effective"])
        for key, value in results.items():
            metric, comma, filter_ = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = results.get(f"{metric}_stderr,{filter_}")
            known = isinstance(error, int | float) and math.isfinite(error)
            yield Score(
                model, task, metric, filter_, float(value), float(error) if known else None,
                rows, better.get(metric),
            )  # fmt: skip


@contextlib.contextmanager
def _sandbox() -> Iterator[None]:
    """Render templates of tasks where they reach neither Python's insides nor change a row."""
    plain = lm_eval_utils.env
    sandbox = ImmutableSandboxedEnvironment(
        loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True
    )
    sandbox.filters.update(plain.filters)
    lm_eval_utils.env = sandbox
    try:
        yield
    finally:
        lm_eval_utils.env = plain


@contextlib.contextmanager
def _silence(quiet: bool) -> Iterator[None]:
    """Keep lm-eval's log to its errors; ``quiet``, keep its progress back as well."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    shown = contextlib.redirect_stderr(io.StringIO()) if quiet else contextlib.nullcontext()
    datasets.disable_progress_bars()
    try:
        with shown:
            yield
    finally:
        datasets.enable_progress_bars()
        logger.setLevel(level)


@contextlib.contextmanager
def _no_environment() -> Iterator[None]:
    """Keep lm-eval from asking git and pip about this machine, 2 s a model: nothing reads it."""
    known = {name: getattr(evaluator, name) for name in ("get_git_commit_hash", "add_env_info")}
    evaluator.get_git_commit_hash = lambda: None
    evaluator.add_env_info = lambda storage: None
    try:
        yield
    finally:
        for name, function in known.items():
            setattr(evaluator, name, function)


def list_rows(found: SuiteRun) -> dict[tuple[str, str, str], dict[str, list[float]]]:
    """Return the value of each row, of metrics that are means over rows.

    Whether one is, its rows tell: their mean is the score. Bits per byte, BLEU and the like are
    functions of all rows together, and lm-eval keeps other things of a row.

    Returns:
        By task, metric and filter, then by model; rows in the order of their numbers. Metrics that
        fewer than two models have are left out.
    """
    values: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for score in found.scores:
        samples = found.samples[score.model].get(score.task, [])
        own = [one for one in samples if one.get("filter", "none") == score.filter]
        rows = [one.get(score.metric) for one in sorted(own, key=lambda one: int(one["doc_id"]))]
        numbers = [float(one) for one in rows if isinstance(one, int | float)]
        if rows and len(numbers) == len(rows) and math.isclose(
            sum(numbers) / len(rows), score.value, rel_tol=1e-9, abs_tol=1e-12
        ):  # fmt: skip
            key = (score.task, score.metric, score.filter)
            values.setdefault(key, {})[score.model] = numbers
    return {key: models for key, models in values.items() if len(models) > 1}


def show_differences(differences: Sequence[Mapping[str, Any]]) -> str:
    """Return the paired differences as a table; nothing where there are none."""
    if not differences:
        return ""
    rows = [["task", "metric", "model", "less", "difference", "95 %", "p, Holm", "n"]]
    for one in differences:
        low, high = one["ci95"] or (math.nan, math.nan)
        label = one["metric"] + ("" if one["filter"] == "none" else f" ({one['filter']})")
        figures = [f"{one['difference']:+.4f}", f"{low:+.4f} to {high:+.4f}"]
        tested = [f"{one['p_adjusted']:.2g}", str(one["n"])]
        rows.append([one["task"], label, one["candidate"], one["reference"], *figures, *tested])
    note = "difference over the same rows; p adjusted over all pairs of a task's metric"
    return "\n".join([*_align(rows), note])


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def describe(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Return scores as plain values, for JSON."""
    return [asdict(score) for score in scores]


def show(scores: Sequence[Score]) -> str:
    """Return scores as a table: a line for each metric of a task, a column for each model."""
    models = list(dict.fromkeys(score.model for score in scores))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for score in scores:
        error = "" if score.stderr is None else f" ± {score.stderr:.4f}"
        label = score.metric if score.filter == "none" else f"{score.metric} ({score.filter})"
        place = cells.setdefault((f"{score.task} (n={score.n})", label), {})
        place[score.model] = f"{score.value:.4f}{error}"
    rows = [["task", "metric", *models]]
    rows += [[*key, *(found.get(one, "") for one in models)] for key, found in cells.items()]
    return "\n".join([*_align(rows), f"± standard error, as lm-eval {VERSION} computes it"])
