"""Shared by the commands of single stages: open inputs, run the stage, print the result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edgetune.adopt import adopt_adapter, base_of
from edgetune.api import open_model
from edgetune.artifact import Artifact
from edgetune.cli.options import judge, make_log, require, show_plan
from edgetune.disk import check_place
from edgetune.errors import GateFailed
from edgetune.recipe import GGUF_SCHEMES, ONNX_SCHEMES
from edgetune.recipe.stage import scheme_settings, stage_recipe

F = TypeVar("F", bound=Callable[..., Any])


def schemes_option(function: F) -> F:
    """Add ``--scheme``, repeated for several files."""
    return click.option(
        "--scheme",
        "schemes",
        multiple=True,
        metavar="NAME",
        help=f"Files to make: {', '.join(GGUF_SCHEMES)} (GGUF), {', '.join(ONNX_SCHEMES)} (ONNX).",
    )(function)


def run_stage(
    name: str,
    inputs: dict[str, Artifact],
    options: dict[str, Any],
    schemes: tuple[str, ...] = (),
    silent: bool = False,
) -> Artifact:
    """Run one stage from command-line options, print its folder and return the artifact.

    With ``--dry-run`` the resolved recipe is printed and the command ends.
    """
    from edgetune import pipeline
    from edgetune.preflight import check_run

    flags = dict(options)
    out, recipe_path = flags.pop("out"), flags.pop("recipe")
    overrides, dry_run = flags.pop("overrides"), flags.pop("dry_run")
    as_json, quiet, resume = flags.pop("as_json"), flags.pop("quiet"), flags.pop("resume", True)
    overrides = (*overrides, *scheme_settings(schemes))
    if recipe_path is None:
        require(flags.get("data"), "--data", "name a file of rows (or a --recipe that does)")
        if flags.get("model") is None and inputs:
            flags["model"] = base_of(inputs)
        require(flags.get("model"), "--model", "name a model folder (or a --recipe that does)")
    recipe, origins = stage_recipe(name, recipe_path, overrides, flags)
    if dry_run:
        if out is not None:
            check_place(out)
        for warning in check_run(recipe, (name,)):
            make_log(quiet).warn(warning)
        show_plan(recipe, origins, [f"{name}: would write {out or '(no --out given)'}"], as_json)
        raise click.exceptions.Exit(0)
    require(out, "--out", "name a new folder")
    artifact = pipeline.run_alone(name, recipe, inputs, out, make_log(quiet), fresh=not resume)
    if not silent:
        result = {"out": str(out), "facts": artifact.facts}
        judge(result, str(out), as_json, failed_gate(artifact))
    return artifact


def open_trained(
    path: Path | None, flag: str, options: dict[str, Any], earlier: tuple[Path, ...] = ()
) -> Artifact:
    """Return the adapter that an option names; ``options["model"]`` is a PEFT adapter's base."""
    require(path, flag, "name the folder of `edgetune tune`, or a PEFT adapter")
    assert path is not None
    return adopt_adapter(path, options.get("model"), earlier)


def open_model_option(options: dict[str, Any]) -> Artifact:
    """Return the model that ``--model`` names; the option becomes its folder."""
    artifact, options["model"] = open_model(options["model"])
    return artifact


def failed_gate(artifact: Artifact) -> GateFailed | None:
    """Return the first of the artifact's own gates that did not hold."""
    failed = [gate for gate in artifact.facts.get("gates", []) if not gate["ok"]]
    if not failed:
        return None
    first = failed[0]
    return GateFailed(
        f"{first['name']} is {first['value']}, the limit is {first['limit']}",
        where=str(artifact.path),
    )
