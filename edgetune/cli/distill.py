"""``edgetune distill``: teacher + rows → student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgetune.cli.options import model_options, recipe_options, training_options
from edgetune.cli.stage import open_trained, run_stage


@click.command("distill")
@click.option(
    "--teacher",
    type=click.Path(path_type=Path),
    help="Folder of `edgetune tune`, or a PEFT adapter over --model.",
)
@click.option("--layers", type=int, help="Layers of the base that the student keeps.")
@click.option("--student", help="Another model with the same tokenizer, instead of a depth cut.")
@model_options
@training_options
@click.option("--out", type=click.Path(path_type=Path), help="New folder for the student.")
@recipe_options
def command(teacher: Path | None, **options: Any) -> None:
    """Train a smaller student on the tuned teacher's cached distribution."""
    options["student.layers"] = options.pop("layers")
    options["student.path"] = options.pop("student")
    run_stage("distill", {"tune": open_trained(teacher, "--teacher", options)}, options)
