"""``edgetune quantize``: model + rows → importance matrix and plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgetune.cli.fields import field_option
from edgetune.cli.options import model_options, recipe_options
from edgetune.cli.stage import open_model_option, run_stage, schemes_option


@click.command("quantize")
@schemes_option
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    metavar="BUDGET",
    help="Search the types for a budget: bytes=2.5MB, bytes=Q4_K_M, bits=4.5, kl=0.02, "
    "ram=800MB, tpot=12ms; onnx:bytes=2.5MB and so on for an ONNX folder.",
)
@click.option("--target", "targets", multiple=True, hidden=True)  # --budget, up to 0.1
@click.option("--train/--no-train", default=None, hidden=True)  # --method qat, up to 0.1
@field_option("--method", "quantize.method")
@model_options
@click.option("--out", type=click.Path(path_type=Path), help="New folder for the plan.")
@recipe_options
def command(
    schemes: tuple[str, ...], budgets: tuple[str, ...], targets: tuple[str, ...], **options: Any
) -> None:
    """Decide the type of every tensor of --model; `edgetune export --plan` writes the files.

    Importance and sensitivity are measured on train rows. Those that share a prompt with a test
    row (with a validation row too, where there is a --budget and --method is not rtn) are excluded
    with a warning; if none remains, that is an error.

    A --scheme is llama.cpp's own mix. For a --budget the sensitivity of each tensor to each type is
    measured on your rows, and the mix with the lowest estimated KL within the budget is chosen.

    ram= and tpot= are measured here, by running files: the peak resident memory of a process that
    has loaded the file and answered, and the median time per output token. Prompt, answer, repeats
    and threads are bench's (bench.prompt_tokens, new_tokens, repeats, threads).
    """
    options["target" if targets else "budget"] = (*budgets, *targets) or None
    run_stage("quantize", {"merge": open_model_option(options)}, options, schemes)
