"""Options that several commands share, and the functions that read them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edgetune.cli.fields import field_option
from edgetune.errors import GateFailed, InputError
from edgetune.log import Log
from edgetune.recipe import Recipe
from edgetune.recipe.load import dump_recipe

F = TypeVar("F", bound=Callable[..., Any])


def recipe_options(function: F) -> F:
    """Add ``--recipe``, ``--set``, ``--dry-run``, ``--json`` and ``--quiet``."""
    options = (
        click.option(
            "--recipe", type=click.Path(path_type=Path), help="Recipe with all other settings."
        ),
        *common_options(),
    )
    for option in reversed(options):
        function = option(function)
    return function


def common_options() -> tuple[Callable[[F], F], ...]:
    """Return the options that ``run`` and the stages have in common."""
    return (
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="SECTION.KEY=VALUE",
            help="Set a recipe key; may be repeated.",
        ),
        click.option("--dry-run", is_flag=True, help="Print the resolved recipe and the plan."),
        click.option("--json", "as_json", is_flag=True, help="End stdout with one JSON line."),
        click.option("--quiet", "-q", is_flag=True, help="Say nothing on stderr but errors."),
    )


def data_options(function: F) -> F:
    """Add the options of the data and its tokenizer, each a recipe key."""
    options = (
        click.option("--model", help="Model folder, embedded:base, or a hub id."),
        click.option("--data", help="File of rows: JSONL, JSON, CSV, Parquet, text; or a folder."),
        click.option("--validation", help="File of validation rows (default: split off)."),
        click.option(
            "--test", help="Rows that models are evaluated on (default: validation rows)."
        ),
        field_option("--max-length", "data.max_length"),
        field_option("--seed", "seed"),
    )
    for option in reversed(options):
        function = option(function)
    return function


def model_options(function: F) -> F:
    """Add the options of the data, and the device that models run on."""
    return data_options(field_option("--device", "model.device")(function))


def training_options(function: F) -> F:
    """Add the training settings that are changed most often."""
    options = (
        field_option("--rank", "tune.rank"),
        field_option("--learning-rate", "tune.learning_rate"),
        field_option("--epochs", "tune.epochs"),
        field_option("--batch-size", "tune.batch_size"),
        click.option(
            "--resume/--fresh",
            default=True,
            show_default=True,
            help="Go on from an interrupted run's checkpoint, or begin again.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def show_plan(recipe: Recipe, origins: dict[str, str], lines: list[str], as_json: bool) -> None:
    """Print the resolved recipe and the plan: what ``--dry-run`` answers."""
    click.echo(dump_recipe(recipe, origins), nl=False)
    for line in lines:
        click.echo(f"# {line}")
    if as_json:
        click.echo(
            json.dumps({"ok": True, "plan": lines, "recipe": recipe.model_dump(mode="json")})
        )


def answer(result: dict[str, Any], text: str, as_json: bool) -> None:
    """Print a command's result: text, or with ``--json`` one JSON line."""
    if as_json:
        click.echo(json.dumps({"ok": True, **result}, default=str))
    else:
        click.echo(text)


def judge(result: dict[str, Any], text: str, as_json: bool, failure: GateFailed | None) -> None:
    """Print a command's result; where a gate failed, end with it.

    Raises:
        GateFailed: ``failure``, the result with it.
    """
    if failure is None:
        answer(result, text, as_json)
        return
    failure.result = result
    if not as_json:
        click.echo(text)
    raise failure


def require(value: Any, flag: str, why: str) -> None:
    """Raise :class:`InputError` for a flag that this call cannot do without."""
    if not value:
        raise InputError(f"{flag} is missing", where="command line", hint=why)


def make_log(quiet: bool, path: Path | None = None) -> Log:
    """Return the log of a command that has no run directory."""
    return Log(path, quiet=quiet)
