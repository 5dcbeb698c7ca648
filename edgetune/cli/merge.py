"""``edgetune merge``: adapter → 16-bit weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgetune.cli.options import model_options, recipe_options
from edgetune.cli.stage import open_trained, run_stage


@click.command("merge")
@click.option(
    "--adapter",
    type=click.Path(path_type=Path),
    help="Folder of `edgetune tune` or `distill`, or a PEFT adapter over --model.",
)
@click.option(
    "--base",
    type=click.Choice(["auto", "original", "dequantized"]),
    help="Base to fold into; auto measures both.",
)
@model_options
@click.option("--out", type=click.Path(path_type=Path), help="New folder for the model.")
@recipe_options
def command(adapter: Path | None, **options: Any) -> None:
    """Fold an adapter into its base, measured on rows, and keep the closer of two bases."""
    trained = open_trained(adapter, "--adapter", options)
    run_stage("merge", {trained.stage: trained}, options)
