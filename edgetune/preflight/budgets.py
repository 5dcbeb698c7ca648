"""Budgets that the smallest types exceed."""

from __future__ import annotations

import math

from edgetune.errors import GateFailed
from edgetune.log import bytes_text
from edgetune.models.shape import Shape
from edgetune.preflight.models import LAYER, read_local_shape
from edgetune.quantize.search.budget import Budget, parse_budget
from edgetune.recipe import Recipe

_HEADS = ("lm_head.", "embed_out.", "output.")
_TOKEN_BYTES = 13  # of a GGUF file's vocabulary at least: a length, a type, and one byte of text


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
            shape = read_local_shape(student.path)
        elif base is not None and base.layers is not None:
            kept = student.layers or max(1, base.layers // 2)
    if shape is None or shape.packed or not shape.tensors:
        return None

    def ships(name: str) -> bool:
        layer = LAYER.search(name)
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
