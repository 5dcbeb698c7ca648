"""``edgetune tune``: base + rows → adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgetune.cli.fields import field_option
from edgetune.cli.options import model_options, recipe_options, training_options
from edgetune.cli.stage import run_stage


@click.command("tune")
@model_options
@field_option("--objective", "tune.objective")
@field_option("--method", "tune.method")
@training_options
@click.option("--out", type=click.Path(path_type=Path), help="New folder for the adapter.")
@recipe_options
def command(**options: Any) -> None:
    """Fine-tune a model on rows with QLoRA; the result is an adapter."""
    run_stage("tune", {}, options)
