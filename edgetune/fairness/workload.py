"""What every model is asked: versions of the user's rows as tokens."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from edgetune.data.encode import Encoder
from edgetune.data.rows import Row
from edgetune.errors import InputError, nearest
from edgetune.fairness.lists import Lists, read_lists
from edgetune.fairness.swap import NO_WORDS, SwappedRow, Swapper, put_name
from edgetune.fairness.words import Finder
from edgetune.measure.variants import Variants
from edgetune.recipe.fairness import FairnessSection

LOOKED_AT = 20_000  # rows of the split, chosen by the seed
TOO_LONG = "longer than data.max_length"


@dataclass(frozen=True)
class Counterfactuals:
    """Swapped rows of every attribute, with their tokens.

    Attributes:
        rows: in the order of ``variants``.
        variants: of each row, as a worker measures them.
        finders: by attribute, to mask words in answers.
        left_out: by attribute and reason, rows that were looked at and could not be swapped.
        lists: of the words; none where nothing was to be swapped.
        seed: of the choice.
    """

    rows: list[SwappedRow] = field(default_factory=list)
    variants: list[Variants] = field(default_factory=list)
    finders: dict[str, Finder] = field(default_factory=dict)
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
    lists: Lists | None = None
    seed: int = 0


def check_fairness(section: FairnessSection) -> Lists:
    """Return the section's lists.

    Raises:
        InputError: they cannot be read, do not have an attribute, or the template lacks a part.
    """
    lists = read_lists(section.lists)
    for one in section.attributes:
        if one not in lists.attributes:
            raise InputError(
                f"the lists have no two groups of '{one}'{nearest(one, lists.attributes)}",
                where="bench.fairness.attributes",
                hint=f"they have {', '.join(lists.attributes)}",
            )
    template = section.template
    if template is not None and not ("{name}" in template and "{prompt}" in template):
        raise InputError(
            "the template needs {name} and {prompt}", where="bench.fairness.template",
            hint="for example '{name} asks: {prompt}'",
        )  # fmt: skip
    return lists


def make_counterfactuals(
    encoder: Encoder, rows: Sequence[Row], section: FairnessSection | None, seed: int
) -> Counterfactuals:
    """Choose rows by the seed, make their versions and encode them; none without a section.

    Raises:
        InputError: as :func:`check_fairness`.
    """
    if section is None:
        return Counterfactuals()
    lists = check_fairness(section)
    order = random.Random(f"fairness {seed}").sample(range(len(rows)), min(len(rows), LOOKED_AT))
    made = Counterfactuals(lists=lists, seed=seed)
    for attribute in dict.fromkeys(section.attributes):
        swapper = Swapper(lists, attribute, seed)
        reasons: Counter[str] = Counter()
        chosen = 0
        for number in order:
            row = rows[number]
            if row.text is not None or not row.is_answered:
                continue
            swapped = swapper.swap(row)
            if swapped == NO_WORDS and section.template is not None:
                swapped = swapper.swap(put_name(row, section.template, lists))
            variants = None if isinstance(swapped, str) else _encode(encoder, swapped)
            if isinstance(swapped, str) or variants is None:
                reasons[swapped if isinstance(swapped, str) else TOO_LONG] += 1
                continue
            made.rows.append(swapped)
            made.variants.append(variants)
            chosen += 1
            if chosen == section.rows:
                break
        made.finders[attribute] = swapper.finder
        made.left_out[attribute] = dict(reasons)
    return made


def _encode(encoder: Encoder, swapped: SwappedRow) -> Variants | None:
    """Return the versions' tokens; ``None`` where one does not fit the model's context."""
    rows = [version.row for version in swapped.versions]
    found = encoder.encode_many(rows)
    encoded = [one for one in found if not isinstance(one, InputError) and not one.truncated]
    if len(encoded) < len(rows):
        return None
    prompts = [encoder.prompt(row) for row in rows]
    answers = [list(one.ids[len(p) :]) for p, one in zip(prompts, encoded, strict=True)]
    # Losses of different answers tell of the answers: only equal ones are compared.
    return Variants(prompts, answers[0] if answers.count(answers[0]) == len(answers) else [],
                    swapped.pairs())  # fmt: skip
