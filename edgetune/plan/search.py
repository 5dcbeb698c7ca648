"""What a search of types takes: its memory and its disk."""

from __future__ import annotations

from edgetune.plan.shape import Shape
from edgetune.recipe import QuantizeSection

#: For each pair of inputs: Hessian, the cross moments of both models, factors in float64.
_GPTQ_BYTES = 28
_SCORING_BYTES = 5 * (64 << 20)  # logits that are compared at a time, and their log probabilities
_BYTES_PER_WEIGHT = 0.65  # of a type, on average
_TYPES = 12  # that rows of most models fit


def search_bytes(section: QuantizeSection, shape: Shape, tokens: float, held: bool) -> int:
    """Return the memory of a search beside the model, at its peak: in its scoring or rounding.

    Args:
        section: the recipe's.
        shape: of the model.
        tokens: of the calibration rows.
        held: whether the model is in memory; else one layer of it is, and the head.
    """
    head, width, depth = 4 * shape.head, shape.head / shape.vocabulary, shape.linear / shape.layer
    # Each layer's output, and beside the model another mix of all of it, or another head.
    outputs = 4 * min(tokens, section.search_tokens) * width * depth
    scoring = outputs + (4 * shape.total if held else 2 * head) + _SCORING_BYTES
    rounding = 8.0 * shape.largest
    if section.needs_hessian:
        rounding = max(rounding, _GPTQ_BYTES * shape.inputs**2)
    return int(max(scoring, rounding))


def search_disk_bytes(section: QuantizeSection, shape: Shape) -> float:
    """Return what a search writes: the model in float32, and each matrix in each type.

    Args:
        section: the recipe's.
        shape: of the model.
    """
    versions = 1 + section.needs_hessian
    types = len(section.types) or _TYPES
    return (4 + _BYTES_PER_WEIGHT * types * versions) * shape.total
