"""What can be known before any work: asked at ``--dry-run`` and at the start of a run.

Reads configurations, headers and first rows; a fault found here would otherwise end a run after
hours of tuning.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

from edgetune.data.files import read_records
from edgetune.data.load import choose_shape
from edgetune.data.sources import open_source
from edgetune.errors import GateFailed, InputError, Unsupported, nearest
from edgetune.log import bytes_text
from edgetune.measure.definitions import MEASUREMENTS, RENAMED
from edgetune.models.checkpoint import check_model_folder
from edgetune.models.resolve import resolve_model
from edgetune.models.shape import Shape, read_shape
from edgetune.models.tuning_method import propose_method, saved_by_nf4
from edgetune.models.vocabulary import check_vocabulary
from edgetune.naming import is_hub_id
from edgetune.quantize.search.budget import Budget, parse_budget
from edgetune.recipe import DataSection, DistillSection, Gate, Recipe, Training, TuneSection
from edgetune.recipe.checks import check_use

FIRST_ROWS = 100
REPORT = "report"
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|layer)\.(\d+)\.")
_HEADS = ("lm_head.", "embed_out.", "output.")
_TOKEN_BYTES = 13  # of a GGUF file's vocabulary at least: a length, a type, and one byte of text


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
    check_use(recipe, None if REPORT in stages else _sections_of(stages))
    if REPORT in stages:
        check_gates(recipe, said)
    for part in ("train", "validation", "test"):
        _check_rows(recipe.data, part)
    opens = {"tune", "distill", "quantize"} & {*stages}
    shape = _shape_of(recipe.model.path) if opens else None
    if "tune" in stages or "distill" in stages:
        _check_length(recipe, shape, said)
    if "tune" in stages and recipe.tune is not None and recipe.tune.method != "full":
        _check_rank(recipe.tune, shape, "tune.rank", said)
        _advise_method(recipe.tune, shape, said)
    if "distill" in stages and recipe.distill is not None:
        check_student(recipe.distill, shape, said)
    if "quantize" in stages:
        check_budgets(recipe, shape)
    if {"merge", "quantize", "export"} & {*stages}:
        check_files(recipe, said)
    return said


def _sections_of(stages: Sequence[str]) -> set[str]:
    """What stages that run alone read."""
    return {"model", "data", *stages}


def check_gates(recipe: Recipe, said: list[str]) -> None:
    """Refuse gates that no measurement of this recipe could ever answer to."""
    have = _measured_by(recipe)
    for number, gate in enumerate(recipe.report.gates):
        where = f"report.gates[{number}]"
        name = RENAMED.get(gate.measurement, gate.measurement)
        if name != gate.measurement:
            said.append(f"{where}: {gate.measurement} is called {name} now")
        if name not in MEASUREMENTS:
            raise InputError(
                f"no measurement '{gate.measurement}'{nearest(name, MEASUREMENTS)}",
                where=f"{where}.measurement", hint=f"one of {', '.join(MEASUREMENTS)}",
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
        if not any(name in have[model] for model in matched):
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
    every = set(MEASUREMENTS) - {name for name in MEASUREMENTS if name.endswith("_to_merged")}
    to_reference = {name for name in every if name.startswith(("kl_", "top1_"))}
    to_merged = set(MEASUREMENTS) - every if "merged" in names else set()
    found = {name: every - (to_reference if name == reference else set()) for name in names}
    return {**found, **dict.fromkeys(files, every | to_merged)}


def _shape_of(path: str | None) -> Shape | None:
    """Return a local model's sizes; none of one that lies on a hub, or is a GGUF file."""
    if path is None or is_hub_id(path) or Path(path).is_file():
        return None
    folder = resolve_model(path)
    check_model_folder(folder)
    return read_shape(folder)


def _check_length(recipe: Recipe, shape: Shape | None, said: list[str]) -> None:
    data = recipe.data
    if data is None or shape is None or shape.context is None or data.max_length <= shape.context:
        return
    what = f"{data.max_length} tokens are more than the model's context of {shape.context}"
    if "max_length" in data.model_fields_set:
        raise InputError(what, where="data.max_length", hint=f"set it to {shape.context} or less")
    said.append(f"data.max_length: {what}; set it to {shape.context} or less if rows are that long")


def _check_rank(section: Training, shape: Shape | None, where: str, said: list[str]) -> None:
    """Refuse a rank that no matrix can have, and warn of one that some cannot."""
    if shape is None or shape.packed:
        return
    sides = {
        name: min(size)
        for name, size in shape.tensors.items()
        if len(size) == 2 and min(size) > 1 and _LAYER.search(name)
    }
    if not sides:
        return
    narrow, wide = min(sides, key=sides.__getitem__), max(sides, key=sides.__getitem__)
    if section.rank > sides[wide]:
        raise InputError(
            f"rank {section.rank} is more than any matrix of this model has: {sides[wide]} at most "
            f"({wide}, {' x '.join(map(str, shape.tensors[wide]))})",
            where=where, hint=f"set it to {sides[narrow]} or less",
        )  # fmt: skip
    if section.rank > sides[narrow]:
        said.append(
            f"{where}: {section.rank} is more than the rank of {narrow} "
            f"({' x '.join(map(str, shape.tensors[narrow]))}): beyond {sides[narrow]} it adds "
            "weights there and nothing else"
        )


def _advise_method(section: TuneSection, shape: Shape | None, said: list[str]) -> None:
    """Say where 4-bit weights save next to nothing and cost accuracy all the same."""
    if section.method != "qlora" or shape is None or propose_method(shape)[0] == "qlora":
        return
    said.append(
        f"tune.method: qlora saves {bytes_text(saved_by_nf4(shape))} of this model and rounds its "
        "weights to 4 bits; lora trains over the weights as they are, full trains them all"
    )


def check_student(section: DistillSection, base: Shape | None, said: list[str]) -> None:
    """Refuse a student that is no cut of its teacher, or that names files that are not there."""
    student = section.student
    if student.config is not None and not Path(student.config).exists():
        raise InputError("no such file", where=f"distill.student.config: {student.config}")
    own = _shape_of(student.path)
    teacher = _shape_of(section.teacher) if section.teacher else base
    if section.train != "full":
        cut = own if student.path is not None else teacher
        _check_rank(section, cut, "distill.rank", said)
    if student.path is not None or student.config is not None or teacher is None:
        return
    widths = {"mlp": student.mlp, "heads": student.heads, "hidden": student.hidden}
    if student.layers is not None and teacher.layers is not None:
        too_many = student.layers > teacher.layers
        if too_many or (student.layers == teacher.layers and not any(widths.values())):
            raise InputError(
                f"the base has {teacher.layers} layers; a student of {student.layers} is no "
                "smaller",
                where="distill.student.layers",
                hint=f"name fewer: {max(1, teacher.layers // 2)} is half of them",
            )
    if any(widths.values()):
        from edgetune.distill.prune_width import Widths, check_widths

        missing = [
            key
            for key in ("intermediate_size", "num_attention_heads", "hidden_size")
            if key not in teacher.config
        ]
        if missing:
            raise Unsupported(
                f"cannot narrow this family: its configuration has no {missing[0]}",
                where="distill.student", hint="cut layers alone",
            )  # fmt: skip
        check_widths(teacher.config, Widths(**widths))


def check_budgets(recipe: Recipe, base: Shape | None) -> None:
    """Refuse budgets of bytes or bits that the smallest types exceed by the tensors alone."""
    section = recipe.quantize
    budgets = [parse_budget(text) for text in section.budget] if section else []
    budgets = [b for b in budgets if b.kind in ("bytes", "bits") and b.like is None]
    found = _shipped_tensors(recipe, base) if budgets else None
    if section is None or found is None:
        return
    shape, tensors = found
    for budget in budgets:
        assert budget.value is not None
        data, count = _least_bytes(budget, recipe, tensors, shape)
        header = _TOKEN_BYTES * int(shape.config.get("vocab_size") or 0)
        least = data + (header if budget.kind == "bytes" and budget.format == "gguf" else 0)
        limit = budget.value if budget.kind == "bytes" else budget.value * count / 8
        if least > limit:
            raise GateFailed(
                f"the smallest file possible has {bytes_text(least)}, "
                f"{bytes_text(least - limit)} over the budget",
                where=f"quantize.budget: {budget.name}",
                hint="a smaller student: distill.student.layers, mlp or hidden",
            )


def _shipped_tensors(
    recipe: Recipe, base: Shape | None
) -> tuple[Shape, dict[str, tuple[int, ...]]] | None:
    """Return the tensors of the model that ships, as far as headers tell them."""
    shape, kept = base, None
    if recipe.distill is not None:
        student = recipe.distill.student
        if student.config is not None or student.mlp or student.heads or student.hidden:
            return None
        if student.path is not None:
            shape = _shape_of(student.path)
        elif base is not None and base.layers is not None:
            kept = student.layers or max(1, base.layers // 2)
    if shape is None or shape.packed or not shape.tensors:
        return None

    def ships(name: str) -> bool:
        layer = _LAYER.search(name)
        if layer and kept is not None and int(layer[1]) >= kept:
            return False
        return not (shape.tied and name.startswith(_HEADS))

    return shape, {name: size for name, size in shape.tensors.items() if ships(name)}


def _least_bytes(
    budget: Budget, recipe: Recipe, tensors: dict[str, tuple[int, ...]], shape: Shape
) -> tuple[int, int]:
    """Return the bytes of the tensors in the smallest types allowed, and how many weights."""
    from edgetune.quantize.formats.types import GGUF, ONNX
    from edgetune.quantize.methods import types_of

    assert recipe.quantize is not None
    section = recipe.quantize
    kinds = GGUF if budget.format == "gguf" else ONNX
    allowed = types_of(section.method, section.types, budget.format)
    total = 0
    for size in tensors.values():
        rows, columns = math.prod(size[:-1]), size[-1] if size else 1
        fitting = [k for k in allowed if kinds.fits(columns, k, section.imatrix)]
        if len(size) < 2 or not fitting:
            total += math.prod(size) * (2 if len(size) > 1 else 4)
        else:
            total += min(kinds.size(rows * kinds.row_bytes(columns, k)) for k in fitting)
    return total, sum(math.prod(size) for size in tensors.values())


def _check_rows(data: DataSection | None, part: str) -> None:
    """Look at the first rows of a split: can they be read, and do they have the columns?"""
    name = getattr(data, part) if data is not None else None
    if data is None or name is None:
        return
    source = open_source(name, part)
    for piece in source.pieces:
        if not os.access(piece.path, os.R_OK):
            raise InputError("you may not read this file", where=f"data.{part}: {piece.path}")
    records = list(islice(read_records(source), FIRST_ROWS))
    names = list(dict.fromkeys(str(key) for record in records for key in record.value or ()))
    if data.columns is not None and names:
        wanted = data.columns.model_dump(exclude_none=True)
        for key, column in wanted.items():
            if column not in names:
                raise InputError(
                    f"no column '{column}'{nearest(column, names)}",
                    where=f"data.columns.{key}", hint=f"{source} has {', '.join(names)}",
                )  # fmt: skip
    elif records:
        choose_shape(records, data, source)


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
