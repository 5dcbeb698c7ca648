"""Which rows train, validate and test; and how far the three overlap."""

from __future__ import annotations

import random
from collections.abc import Sequence

from edgetune.data.rows import Row
from edgetune.errors import InputError


def split_validation(
    rows: Sequence[Row], fraction: float, seed: int
) -> tuple[list[Row], list[Row]]:
    """Return (train, validation): a seeded choice, each in the order of the file.

    Rows with the same prompt stay in one split, so no validation prompt was trained on.

    Raises:
        InputError: either split would be empty.
    """
    wanted = max(1, round(len(rows) * fraction)) if fraction > 0 else 0
    prompts = list(dict.fromkeys(prompt_key(row) for row in rows))
    random.Random(seed).shuffle(prompts)
    sizes = count_prompts(rows)
    chosen: set[str] = set()
    taken = 0
    for prompt in prompts:
        if taken >= wanted:
            break
        chosen.add(prompt)
        taken += sizes[prompt]
    train = [row for row in rows if prompt_key(row) not in chosen]
    validation = [row for row in rows if prompt_key(row) in chosen]
    if not train or not validation:
        raise InputError(
            f"{len(rows)} rows ({len(prompts)} prompts) split into {len(train)} to train and "
            f"{len(validation)} to validate",
            where="data.validation_fraction",
            hint="name a data.validation file, give more rows, or change the fraction",
        )
    return train, validation


def choose_rows(rows: list[Row], limit: int | None, seed: int) -> list[Row]:
    """Return ``limit`` rows chosen by the seed, in file order (files are often sorted by class)."""
    if limit is None or limit >= len(rows):
        return rows
    return [rows[index] for index in sorted(random.Random(seed).sample(range(len(rows)), limit))]


def prompt_key(row: Row) -> str:
    """Return the key of equal prompts: the prompt, or the whole text."""
    if row.text is not None:
        return " ".join(row.text.split())
    turns = "\0".join(f"{m.role}\1{' '.join(m.content.split())}\1{m.more}" for m in row.prompt)
    return f"{turns}\0{row.tools}"


def leave_out(rows: Sequence[Row], others: Sequence[Row]) -> list[Row]:
    """Return the rows whose prompt none of ``others`` has."""
    asked = {prompt_key(row) for row in others}
    return [row for row in rows if prompt_key(row) not in asked]


def count_prompts(rows: Sequence[Row]) -> dict[str, int]:
    """Return how many rows have each prompt."""
    counts: dict[str, int] = {}
    for row in rows:
        key = prompt_key(row)
        counts[key] = counts.get(key, 0) + 1
    return counts


def count_shared(rows: Sequence[Row], train: Sequence[Row]) -> int:
    """Return how many of ``rows`` have a prompt that is also in ``train``."""
    known = {prompt_key(row) for row in train}
    return sum(prompt_key(row) in known for row in rows)
