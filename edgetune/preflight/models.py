"""Sizes of the recipe's models: lengths, ranks and students that they cannot have."""

from __future__ import annotations

import re
from pathlib import Path

from edgetune.errors import InputError, Unsupported
from edgetune.log import bytes_text
from edgetune.models.checkpoint import check_model_folder
from edgetune.models.hardware import choose_device
from edgetune.models.resolve import resolve_model
from edgetune.models.shape import Shape, read_shape
from edgetune.models.tuning_method import propose_method, saved_by_nf4
from edgetune.naming import is_hub_id
from edgetune.recipe import DistillSection, Recipe, Training, TuneSection
from edgetune.train.optimizers import OPTIMIZERS, check_optimizer

LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|layer)\.(\d+)\.")


def read_local_shape(path: str | None) -> Shape | None:
    """Return a local model's sizes; none of one that lies on a hub, or is a GGUF file."""
    if path is None or is_hub_id(path) or Path(path).is_file():
        return None
    folder = resolve_model(path)
    check_model_folder(folder)
    return read_shape(folder)


def check_length(recipe: Recipe, shape: Shape | None, said: list[str]) -> None:
    """Refuse rows longer than the model's context, or warn where the length is the default."""
    data = recipe.data
    if data is None or shape is None or shape.context is None or data.max_length <= shape.context:
        return
    what = f"{data.max_length} tokens are more than the model's context of {shape.context}"
    if "max_length" in data.model_fields_set:
        raise InputError(what, where="data.max_length", hint=f"set it to {shape.context} or less")
    said.append(f"data.max_length: {what}; set it to {shape.context} or less if rows are that long")


def check_rank(section: Training, shape: Shape | None, where: str, said: list[str]) -> None:
    """Refuse a rank that no matrix can have, and warn of one that some cannot."""
    if shape is None or shape.packed:
        return
    sides = {
        name: min(size)
        for name, size in shape.tensors.items()
        if len(size) == 2 and min(size) > 1 and LAYER.search(name)
    }
    if not sides:
        return
    largest = max(section.uniform_rank, *section.rank_pattern.values(), 1)
    narrow, wide = min(sides, key=sides.__getitem__), max(sides, key=sides.__getitem__)
    if largest > sides[wide]:
        raise InputError(
            f"rank {largest} is more than any matrix of this model has: {sides[wide]} at most "
            f"({wide}, {' x '.join(map(str, shape.tensors[wide]))})",
            where=where, hint=f"set it to {sides[narrow]} or less",
        )  # fmt: skip
    if largest > sides[narrow]:
        said.append(
            f"{where}: {largest} is more than the rank of {narrow} "
            f"({' x '.join(map(str, shape.tensors[narrow]))}): beyond {sides[narrow]} it adds "
            "weights there and nothing else"
        )


def check_device(section: Training, device: str, stage: str) -> None:
    """Refuse an optimizer that the recipe's device cannot run.

    Args:
        section: of the recipe.
        device: the recipe's ``model.device``.
        stage: the section's name.
    """
    if OPTIMIZERS[section.optimizer].paged:  # else torch need not be asked for a device
        check_optimizer(section.optimizer, choose_device(device), f"{stage}.optimizer")


def advise_method(section: TuneSection, shape: Shape | None, said: list[str]) -> None:
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
    own = read_local_shape(student.path)
    teacher = read_local_shape(section.teacher) if section.teacher else base
    if section.train != "full":
        cut = own if student.path is not None else teacher
        check_rank(section, cut, "distill.rank", said)
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
