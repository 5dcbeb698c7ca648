"""``edgetune quantize``: model + rows → importance matrix and plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgetune.cli.options import model_options, recipe_options
from edgetune.cli.stage import open_model, run_stage, schemes_option


@click.command("quantize")
@schemes_option
@model_options
@click.option("--out", type=click.Path(path_type=Path), help="New folder for the plan.")
@recipe_options
def command(schemes: tuple[str, ...], **options: Any) -> None:
    """Decide the type of every tensor of --model; `edgetune export --plan` writes the files."""
    run_stage("quantize", {"merge": open_model(options)}, options, schemes)
