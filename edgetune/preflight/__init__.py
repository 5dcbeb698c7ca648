"""What can be known before any work: asked at ``--dry-run`` and at the start of a run.

Reads configurations, headers and first rows; a fault found here would otherwise end a run after
hours of tuning.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice

from edgetune.data.dataset.read import check_objective
from edgetune.data.files import read_records
from edgetune.data.shapes import choose_shape
from edgetune.data.sources import Source, narrow, open_source
from edgetune.errors import InputError, Unsupported, nearest
from edgetune.fairness.workload import check_fairness
from edgetune.measure.devices import choose_devices
from edgetune.models.hardware import choose_device
from edgetune.models.resolve import resolve_model
from edgetune.models.shape import Shape
from edgetune.models.vocabulary import check_vocabulary
from edgetune.naming import is_hub_id
from edgetune.preflight.adapters import (
    check_adapter_file,
    check_base_file,
    check_named_modules,
    ships_adapter,
)
from edgetune.preflight.budgets import check_budgets
from edgetune.preflight.classifiers import check_classifiers
from edgetune.preflight.gates import check_gates
from edgetune.preflight.models import (
    advise_method,
    check_device,
    check_length,
    check_rank,
    check_student,
    read_local_shape,
)
from edgetune.preflight.slices import check_slices
from edgetune.preflight.trackers import check_trackers
from edgetune.recipe import DataSection, Recipe
from edgetune.recipe.checks import check_use
from edgetune.recipe.sampling import SAMPLING
from edgetune.synthesize.address import check_teacher
from edgetune.train.rewards import check_rewards

FIRST_ROWS = 100
REPORT = "report"


def check_run(recipe: Recipe, stages: Sequence[str]) -> list[str]:
    """Refuse what the recipe's stages would refuse, or do wrong, after others have worked.

    Args:
        recipe: resolved; a model that is still on a hub is not looked at.
        stages: names of those that are going to run, and :data:`REPORT` where one is written.

    Returns:
        Warnings of what may be meant, but hardly is.

    Raises:
        InputError: names the key.
        GateFailed: a budget below the smallest file.
        Unsupported: none of the files can be made.
    """
    said = list(recipe.renamed)
    if recipe.search is not None:
        said.append("search is read by `edgetune sweep`; this run takes the recipe's own values")
    check_use(recipe, None if REPORT in stages else _sections_of(stages))
    check_trackers(recipe, stages)
    if REPORT in stages:
        check_gates(recipe, said)
    if "synthesize" in stages and recipe.synthesize is not None and recipe.data is not None:
        check_teacher(recipe.synthesize, recipe.data)
    for part in ("train", "validation", "test"):
        _check_rows(recipe.data, part)
    opens = {"tune", "distill", "quantize"} & {*stages}
    shape = read_local_shape(recipe.model.path) if opens else None
    if "tune" in stages:
        check_base_file(recipe)
        _check_steps(recipe, shape, "export" in stages and ships_adapter(recipe), said)
    if "distill" in stages:
        check_length(recipe, shape, said)
    if "distill" in stages and recipe.distill is not None:
        check_device(recipe.distill, recipe.model.device, "distill")
        check_student(recipe.distill, shape, said)
        if recipe.distill.train != "full":
            check_named_modules(recipe.distill, recipe.distill.student.path, "distill")
    if "quantize" in stages:
        check_budgets(recipe, shape)
    if {"merge", "quantize", "export"} & {*stages}:
        check_files(recipe, said)
    if {"tune", "export"} <= {*stages}:
        check_adapter_file(recipe)
    if "bench" in stages:
        check_slices(recipe)
    if "bench" in stages and recipe.bench is not None and recipe.bench.prompting is not None:
        read_local_shape(recipe.bench.prompting.larger)
    if "bench" in stages and recipe.bench is not None and recipe.bench.fairness is not None:
        check_fairness(recipe.bench.fairness)
        check_classifiers(recipe.bench.fairness, said)
    return said


def _check_steps(recipe: Recipe, shape: Shape | None, alone: bool, said: list[str]) -> None:
    """Look at each step of the tuning: its rows, its adapter, the device that it asks for.

    ``alone`` is whether the adapter ships by itself.
    """
    for number, step in enumerate(recipe.steps):
        one = recipe.at_step(number)
        for part in ("train", "validation", "test"):
            if step.data is not None or part == "train":
                _check_rows(one.data, part, one.tokenizer.objective)
        if step.objective in SAMPLING:
            check_rewards(getattr(step, step.objective), f"tune.{step.objective}")
        check_length(one, shape, said)
        check_device(step, recipe.model.device, "tune")
        if step.method != "full":
            check_rank(step, shape, "tune.rank", said)
            check_named_modules(step, recipe.model.path, "tune", alone)
            if number == 0 and step.base is None:
                advise_method(step, shape, said)


def _sections_of(stages: Sequence[str]) -> set[str]:
    """What stages that run alone read."""
    return {"model", "data", *stages}


def check_devices(recipe: Recipe, stages: Sequence[str]) -> None:
    """Refuse a device that is asked for and absent, before the stages that come before its use.

    A dry run is not refused: it may be of a recipe for another machine.

    Args:
        recipe: resolved.
        stages: names of those that are going to run.

    Raises:
        InputError: names the key.
    """
    if recipe.model.device == "cuda" and stages:
        choose_device("cuda")
    if recipe.bench is not None and "bench" in stages:
        wanted = recipe.bench.devices
        if wanted != "auto" and "cuda" in wanted:
            choose_devices(recipe.bench, recipe.model.device)


def _check_rows(data: DataSection | None, part: str, objective: str | None = None) -> None:
    """Look at the first rows of a split: can they be read, and do they have the columns?

    Where they are to be trained on, they also have to be of a shape that the objective takes.
    """
    name = getattr(data, part) if data is not None else None
    if data is None or name is None:
        return
    source = open_source(name, part)
    for piece in source.pieces:
        if piece.commit is None and not os.access(piece.path, os.R_OK):
            raise InputError("you may not read this file", where=f"data.{part}: {piece.path}")
    for named, pieces in source.named:
        _check_shape(narrow(data, named), pieces, objective)


def _check_shape(data: DataSection, source: Source, objective: str | None) -> None:
    records = list(islice(read_records(source), FIRST_ROWS))
    names = list(dict.fromkeys(str(key) for record in records for key in record.value or ()))
    if data.columns is not None and names:
        wanted = data.columns.names(names)
        for key, column in ((key, one) for key, some in wanted.items() for one in some):
            if column not in names:
                raise InputError(
                    f"no column '{column}'{nearest(column, names)}",
                    where=f"data.columns.{key}", hint=f"{source} has {', '.join(names)}",
                )  # fmt: skip
    elif records:
        shape = choose_shape(records, data, source)
        if objective is not None:
            check_objective(shape, objective, str(source))


def check_files(recipe: Recipe, said: list[str]) -> None:
    """Say before any work which files the recipe's model cannot become.

    Raises:
        Unsupported: none of them can be.
    """
    shipped = recipe.distill.student.path if recipe.distill else None
    path = shipped or recipe.model.path
    if (recipe.merge or recipe.quantize or recipe.export) and not is_hub_id(path):
        check_vocabulary(resolve_model(path))
    if recipe.quantize is None or recipe.export is None or is_hub_id(path):
        return
    from edgetune.export.files import find_refusals

    refusals = find_refusals(resolve_model(path), recipe.quantize)
    reasons = {refusal["format"]: refusal["why"] for refusal in refusals}
    for kind, why in reasons.items():
        said.append(f"no {kind.upper()} files can be made of this model: {why}")
    if len(refusals) == len(recipe.quantize.gguf) + len(recipe.quantize.onnx) > 0:
        raise Unsupported(
            "none of the files asked for can be made: " + "; ".join(reasons.values()), where=path
        )
