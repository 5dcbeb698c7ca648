"""``edgetune merge``: adapter → 16-bit weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgetune.cli.fields import field_option
from edgetune.cli.options import model_options, recipe_options
from edgetune.cli.stage import open_trained, run_stage


@click.command("merge")
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder of `edgetune tune` or `distill`, or a PEFT adapter over --model; repeated: one "
    "on top of the other, in the order of training.",
)
@field_option("--base", "merge.base")
@field_option("--trained-on", "merge.trained_on")
@model_options
@click.option("--out", type=click.Path(path_type=Path), help="New folder for the model.")
@recipe_options
def command(adapters: tuple[Path, ...], **options: Any) -> None:
    """Merge an adapter into its base, measured on rows, and keep the closer of two bases.

    An adapter that was trained on another one (DPO on SFT, say) needs both:
    --model BASE --adapter SFT --adapter DPO.
    """
    *earlier, last = adapters or (None,)
    trained = open_trained(last, "--adapter", options, tuple(filter(None, earlier)))
    run_stage("merge", {trained.stage: trained}, options)
