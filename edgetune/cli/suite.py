"""``edgetune bench --suite``: local lm-eval tasks on models and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgetune.cli.options import answer, require
from edgetune.disk import check_place
from edgetune.errors import InputError

#: Options of ``bench`` that measure on rows; a suite brings its own.
_ROWS = ("data", "validation", "test", "max_length", "seed", "recipe", "overrides")


def run(suite: Path, files: tuple[Path, ...], options: dict[str, Any]) -> None:
    """Check the suite, run it on --model and the files, print the scores.

    Raises:
        InputError: lm-eval is not installed, an option that a suite has no use for, or one of
            :func:`edgetune.lm_eval.tasks.read_suite`'s.
    """
    for name in _ROWS:
        if options.get(name):
            flag = "set" if name == "overrides" else name.replace("_", "-")
            raise InputError(
                f"--suite has no use for --{flag}", where="command line", hint=f"leave out --{flag}"
            )
    try:
        from edgetune.lm_eval.tasks import read_suite
    except ImportError as error:
        raise InputError(
            f"lm-eval is not installed ({error})", hint="pip install 'edgetune[lm-eval]'"
        ) from error
    tasks = read_suite(suite, options["run_functions"])
    models = _name_models(files, options["model"])
    out: Path | None = options["out"]
    if out is not None:
        check_place(out)
        if out.exists():
            raise InputError("the folder exists", where=str(out), hint="name a new one")
    names = [task["task"] for task in tasks]
    if options["dry_run"]:
        plan = [f"{name}: on {', '.join(models)}" for name in names]
        answer({"plan": plan}, "\n".join(plan), options["as_json"])
        return
    from edgetune.evaluate.differences import compare_rows
    from edgetune.lm_eval.suite import (
        VERSION,
        describe,
        list_rows,
        run_suite,
        show,
        show_differences,
    )

    found = run_suite(
        models, tasks, options["device"] or "cpu", options["chat"], options["limit"],
        options["quiet"],
    )  # fmt: skip
    differences = [
        {"task": task, "filter": filter_, **one}
        for (task, metric, filter_), values in list_rows(found).items()
        for one in compare_rows(metric, values)
    ]
    result = {
        "suite": str(suite), "lm_eval": VERSION, "scores": describe(found.scores),
        "differences": differences,
    }  # fmt: skip
    if out is not None:
        _write(out, result, found.samples)
    tables = filter(None, (show(found.scores), show_differences(differences)))
    answer(result, "\n\n".join(tables), options["as_json"])


def _name_models(files: tuple[Path, ...], model: str | None) -> dict[str, Path]:
    """Return the models by what they are called in the table."""
    require(files or model, "--model", "name a model folder, or files")
    models: dict[str, Path] = {}
    if model:
        from edgetune.models.resolve import resolve_model

        models[model] = resolve_model(model)
    for file in files:
        name = file.name if file.name not in models else str(file)
        models[name] = file
    return models


def _write(out: Path, result: dict[str, Any], samples: dict[str, Any]) -> None:
    """Write the scores, and every row's record as lm-eval keeps it."""
    out.mkdir(parents=True)
    (out / "suite.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for number, (model, tasks) in enumerate(samples.items()):
        for task, rows in tasks.items():
            lines = [json.dumps({"model": model, **row}, default=str) for row in rows]
            file = out / f"samples-{number}-{task.replace('/', '_')}.jsonl"
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def suite_options(function: Any) -> Any:
    """Add ``--suite`` and what belongs to it."""
    options = (
        click.option(
            "--suite",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="Run this file's lm-eval tasks over local rows instead; needs no --data.",
        ),
        click.option(
            "--limit", type=click.IntRange(min=1), help="With --suite: rows of each task."
        ),
        click.option(
            "--chat", is_flag=True, help="With --suite: put prompts into the chat template."
        ),
        click.option(
            "--run-functions",
            is_flag=True,
            help="With --suite: run the Python that its !function tags name.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function
