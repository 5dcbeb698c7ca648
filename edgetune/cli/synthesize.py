"""``edgetune synthesize``: teacher + seed rows → rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgetune.cli.fields import field_option
from edgetune.cli.options import model_options, recipe_options
from edgetune.cli.stage import run_stage
from edgetune.recipe.stage import synthesize_settings


@click.command("synthesize")
@field_option("--task", "synthesize.task")
@field_option("--teacher", "synthesize.teacher")
@field_option("--endpoint", "synthesize.endpoint")
@click.option("--endpoint-model", help="The endpoint's name of the model.")
@field_option("--key-env", "synthesize.key_env")
@field_option("--prompts", "synthesize.prompts")
@field_option("--from", "synthesize.from")
@field_option("--failures-of", "synthesize.failures_of")
@field_option("--count", "synthesize.count")
@field_option("--temperature", "synthesize.temperature")
@model_options
@click.option(
    "--resume/--fresh",
    default=True,
    show_default=True,
    help="Go on from an interrupted call's finished batches, or begin again.",
)
@click.option("--out", type=click.Path(path_type=Path), help="New folder for the rows.")
@recipe_options
def command(**options: Any) -> None:
    """Have a teacher write rows, and keep what validators accept.

    Writes rows.jsonl, each row with its origin, and rejected.jsonl, each with the reason. Name the
    folder in data.train to train on them.
    """
    flags, sets = synthesize_settings(options)
    flags["overrides"] = (*flags["overrides"], *sets)
    run_stage("synthesize", {}, flags)
