"""``edgetune distill``: teacher + rows → student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgetune.api import distill_inputs
from edgetune.cli.options import model_options, recipe_options, training_options
from edgetune.cli.stage import run_stage


@click.command("distill")
@click.option(
    "--teacher",
    type=click.Path(path_type=Path),
    help="Folder of `edgetune tune`, a PEFT adapter over --model, a model folder, or a GGUF file.",
)
@click.option("--layers", type=int, help="Layers of the teacher that the student keeps.")
@click.option("--student", help="Another model to teach, instead of a depth cut.")
@click.option(
    "--method",
    type=click.Choice(["cached", "online", "on_policy", "sequence"]),
    help="What the student learns from: kept distributions, a resident teacher, that teacher's "
    "grades of its own words, or the teacher's answers.",
)
@click.option("--train", type=click.Choice(["full", "lora", "qlora"]), help="What trains.")
@click.option("--prompts", help="File of rows whose answers the teacher writes.")
@click.option("--cache", help="Folder of the teacher's cache, to share between runs.")
@model_options
@training_options
@click.option("--out", type=click.Path(path_type=Path), help="New folder for the student.")
@recipe_options
def command(teacher: Path | None, **options: Any) -> None:
    """Train a smaller student on what the teacher says."""
    options["student.layers"] = options.pop("layers")
    options["student.path"] = options.pop("student")
    inputs, flags = distill_inputs(teacher, options)
    run_stage("distill", inputs, flags)
