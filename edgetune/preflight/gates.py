"""Gates that no measurement of the recipe could answer to."""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase

from edgetune.errors import InputError, nearest
from edgetune.evaluate import TASKS
from edgetune.evaluate.grading import AUTO
from edgetune.evaluate.slices import LABEL, LENGTH
from edgetune.measure.definitions import MEASUREMENTS, RENAMED, name_classified
from edgetune.quantize.search.budget import parse_budget
from edgetune.recipe import Gate, Recipe


def check_gates(recipe: Recipe, said: list[str]) -> None:
    """Refuse gates that no measurement of this recipe could ever answer to."""
    have = _measured_by(recipe)
    measured = [*MEASUREMENTS, *_classified_by(recipe)]
    for number, gate in enumerate(recipe.report.gates):
        where = f"report.gates[{number}]"
        name = RENAMED.get(gate.measurement, gate.measurement)
        if name != gate.measurement:
            said.append(f"{where}: {gate.measurement} is called {name} now")
        graded: set[str] = set()
        if name not in measured or gate.slice is not None:
            graded = _graded_by(recipe)
        if name not in measured and name not in graded:
            known = [*measured, *sorted(graded - {*measured})]
            raise InputError(
                f"no measurement '{gate.measurement}'{nearest(name, known)}",
                where=f"{where}.measurement", hint=f"one of {', '.join(known)}",
            )  # fmt: skip
        _check_limits(gate, where)
        if recipe.bench is None:
            raise InputError(
                "nothing is measured that this gate could hold", where=where,
                hint="add a section `bench: {}`, or leave the gate out",
            )  # fmt: skip
        matched = [model for model in have if fnmatchcase(model, gate.models)]
        if not matched:
            close = nearest(gate.models.strip("*"), have)
            raise InputError(
                f"no model of this run is called '{gate.models}'{close}",
                where=f"{where}.models", hint=f"its models: {', '.join(have)}",
            )  # fmt: skip
        _check_compared(gate, recipe, have, where)
        if name not in graded and not any(name in have[model] for model in matched):
            whose = [model for model in have if name in have[model]]
            raise InputError(
                f"{name} is not measured of {', '.join(matched)}", where=where,
                hint=f"it is of {', '.join(whose)}" if whose else "it is of no model of this run",
            )  # fmt: skip


def _check_limits(gate: Gate, where: str) -> None:
    if gate.min is None and gate.max is None:
        raise InputError("this gate has no limit", where=where, hint="set min or max")
    if gate.min is not None and gate.max is not None and gate.min > gate.max:
        raise InputError(f"min {gate.min:g} is above max {gate.max:g}", where=where)


def _check_compared(gate: Gate, recipe: Recipe, have: Collection[str], where: str) -> None:
    """Refuse a slice by a column that is not sliced, and a reference that is no model."""
    if gate.slice is not None:
        column, sign, _ = gate.slice.partition("=")
        known = [LENGTH, LABEL, *(recipe.bench.slices if recipe.bench else ())]
        if not sign or column not in known:
            raise InputError(
                f"no slice '{gate.slice}'{nearest(column, known)}", where=f"{where}.slice",
                hint=f"write COLUMN=VALUE; its columns: {', '.join(known)} (see bench.slices)",
            )  # fmt: skip
    known = [*have, *_list_prompted(recipe)]
    if gate.reference is not None and not any(fnmatchcase(one, gate.reference) for one in known):
        close = nearest(gate.reference.strip("*"), known)
        raise InputError(
            f"no model of this run is called '{gate.reference}'{close}",
            where=f"{where}.reference", hint=f"its models: {'; '.join(known)}",
        )  # fmt: skip


def _list_prompted(recipe: Recipe) -> list[str]:
    """Return the names of untouched models by each prompt, as bench keeps their answers."""
    section = recipe.bench.prompting if recipe.bench else None
    if section is None:
        return []
    from edgetune.measure.prompts import list_kinds  # imports what reads rows

    parts = ["base", *(["larger"] if section.larger else [])]
    return [f"{part}, {kind.name}" for part in parts for kind in list_kinds(section)]


def _classified_by(recipe: Recipe) -> list[str]:
    """Return the metrics of the classifiers that read every model's answers."""
    fairness = recipe.bench.fairness if recipe.bench else None
    names = (fairness.classifier or {}) if fairness else {}
    return [name_classified(name, rate) for name in names for rate in (False, True)]


def _graded_by(recipe: Recipe) -> set[str]:
    """Return the metrics of the task; of all tasks, where it is guessed from the rows."""
    task = recipe.bench.task if recipe.bench else AUTO
    names = TASKS if task == AUTO else [task]
    return {metric for name in names for metric in TASKS[name].definitions}


def _measured_by(recipe: Recipe) -> dict[str, set[str]]:
    """Return the names of the models that bench will measure, and what of each."""
    names = ["base"]
    names += ["teacher"] if recipe.tune is not None else []
    names += ["baseline"] if recipe.distill is not None and recipe.distill.baseline else []
    names += ["merged"] if recipe.merge is not None else []
    files: list[str] = []
    if recipe.export is not None and recipe.quantize is not None:
        budgets = [parse_budget(text) for text in recipe.quantize.budget]
        files = [f"{scheme}.gguf" for scheme in recipe.quantize.gguf]
        files += [f"{precision}.onnx" for precision in recipe.quantize.onnx]
        files += [f"{budget.name}.{budget.format}" for budget in budgets]
    reference = "teacher" if "teacher" in names else "base"
    every = {name for name in MEASUREMENTS if not name.endswith("_to_merged")}
    every |= {*_classified_by(recipe)}
    to_reference = {name for name in every if name.startswith(("kl_", "top1_"))}
    to_merged = set(MEASUREMENTS) - every if "merged" in names else set()
    found = {name: every - (to_reference if name == reference else set()) for name in names}
    return {**found, **dict.fromkeys(files, every | to_merged)}
