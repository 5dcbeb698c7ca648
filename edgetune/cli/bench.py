"""``edgetune bench``: measure models and files, each in its own runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgetune.adopt import adopt_files
from edgetune.cli.options import model_options, recipe_options
from edgetune.cli.stage import open_trained, run_stage


@click.command("bench")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--teacher",
    type=click.Path(path_type=Path),
    help="Folder of `edgetune tune`, or a PEFT adapter over --model.  [default: --model itself]",
)
@model_options
@click.option("--out", type=click.Path(path_type=Path), help="New folder for the measurements.")
@recipe_options
def command(files: tuple[Path, ...], teacher: Path | None, **options: Any) -> None:
    """Measure --model and every FILE (GGUF, or a folder with ONNX) against the teacher."""
    inputs = {"export": adopt_files(files)} if files else {}
    if teacher is not None:
        inputs["tune"] = open_trained(teacher, "--teacher", options)
    run_stage("bench", inputs, options)
