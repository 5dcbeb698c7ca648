"""``edgetune prepare``: sources → the dataset that training reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgetune.cli.options import data_options, recipe_options
from edgetune.cli.stage import run_stage


@click.command("prepare")
@data_options
@click.option("--out", type=click.Path(path_type=Path), help="New folder for the dataset.")
@recipe_options
def command(**options: Any) -> None:
    """Read, clean, split and tokenize rows; the result is a dataset in Arrow files."""
    run_stage("prepare", {}, options)
