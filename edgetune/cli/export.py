"""``edgetune export``: model + plan → GGUF and ONNX files, each checked against the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgetune.artifact import load_artifact
from edgetune.cli.options import model_options, recipe_options
from edgetune.cli.stage import open_model_option, open_trained, run_stage, schemes_option
from edgetune.errors import InputError


@click.command("export")
@click.option(
    "--plan",
    type=click.Path(path_type=Path),
    help="Folder of `edgetune quantize`.  [default: decided here, beside --out]",
)
@click.option(
    "--adapter",
    type=click.Path(path_type=Path),
    help="Folder of `edgetune tune` that --model was merged from: ship its adapter alone as well. "
    "One tuned over a GGUF file ships over that file, without --model.",
)
@schemes_option
@model_options
@click.option("--out", type=click.Path(path_type=Path), help="New folder for the files.")
@recipe_options
def command(
    plan: Path | None, adapter: Path | None, schemes: tuple[str, ...], **options: Any
) -> None:
    """Write GGUF and ONNX files of --model and compare each with it, in its own runtime."""
    trained = None if adapter is None else open_trained(adapter, "--adapter", {"model": None})
    if trained is not None and trained.facts["model"].get("gguf"):
        _refuse_files(plan, schemes, options["model"])
        run_stage("export", {"tune": trained}, options)
        return
    inputs = {"merge": open_model_option(options)}
    if plan is None and not options["dry_run"] and options["out"]:
        beside = options["out"].with_name(options["out"].name + "-plan")
        made = run_stage("quantize", dict(inputs), {**options, "out": beside}, schemes, silent=True)
        inputs["quantize"] = made
    elif plan is not None:
        inputs["quantize"] = load_artifact(plan)
    if trained is not None:
        inputs["tune"] = trained
        options["overrides"] = (*options["overrides"], "export.adapter=true")
    run_stage("export", inputs, options, schemes)


def _refuse_files(plan: Path | None, schemes: tuple[str, ...], model: str | None) -> None:
    """Refuse options of files for an adapter that ships over the file that it was tuned over."""
    for flag, value in (("--plan", plan), ("--scheme", schemes), ("--model", model)):
        if value:
            raise InputError(
                "this adapter was tuned over a GGUF file and ships over that very file",
                where=flag,
                hint=f"leave {flag} out",
            )
