"""``edgetune bench``: measure models and files, each in its own runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgetune.adopt import adopt_files
from edgetune.cli.options import model_options, recipe_options
from edgetune.cli.stage import open_trained, run_stage
from edgetune.cli.suite import run, suite_options
from edgetune.errors import InputError


@click.command("bench")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--teacher",
    type=click.Path(path_type=Path),
    help="Folder of `edgetune tune`, or a PEFT adapter over --model.  [default: --model itself]",
)
@model_options
@suite_options
@click.option("--out", type=click.Path(path_type=Path), help="New folder for the measurements.")
@recipe_options
def command(
    files: tuple[Path, ...], teacher: Path | None, suite: Path | None, **options: Any
) -> None:
    """Measure --model and every FILE (GGUF, or a folder with ONNX) against the teacher.

    With --suite, lm-eval tasks of a file are run on them, offline.
    """
    if suite is not None:
        if teacher is not None:
            raise InputError(
                "--suite runs no adapter", where="--teacher", hint="merge it, and name it --model"
            )
        run(suite, files, options)
        return
    for name in ("limit", "chat", "run_functions"):
        if options.pop(name):
            flag = name.replace("_", "-")
            raise InputError(f"--{flag} belongs to --suite", where="command line")
    inputs = {"export": adopt_files(files)} if files else {}
    if teacher is not None:
        inputs["tune"] = open_trained(teacher, "--teacher", options)
    run_stage("bench", inputs, options)
