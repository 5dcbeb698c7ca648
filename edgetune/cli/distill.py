"""``edgetune distill``: teacher + rows → student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgetune.api import distill_inputs
from edgetune.cli.fields import field_option
from edgetune.cli.options import model_options, recipe_options, training_options
from edgetune.cli.stage import run_stage


@click.command("distill")
@click.option(
    "--teacher",
    type=click.Path(path_type=Path),
    help="Folder of `edgetune tune`, a PEFT adapter over --model, a model folder, or a GGUF file.",
)
@field_option("--layers", "distill.student.layers")
@click.option("--student", help="Another model to teach, instead of a depth cut.")
@field_option("--method", "distill.method")
@field_option("--train", "distill.train")
@field_option("--prompts", "distill.prompts")
@field_option("--cache", "distill.cache")
@model_options
@training_options
@click.option("--out", type=click.Path(path_type=Path), help="New folder for the student.")
@recipe_options
def command(teacher: Path | None, **options: Any) -> None:
    """Train a smaller student on the teacher's distributions or answers."""
    options["student.layers"] = options.pop("layers")
    options["student.path"] = options.pop("student")
    inputs, flags = distill_inputs(teacher, options)
    run_stage("distill", inputs, flags)
