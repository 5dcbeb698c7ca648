"""The key by which prompts are equal, and seeded choices among rows."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from edgetune.data.rows import Row
from edgetune.errors import InputError

T = TypeVar("T")


def prompt_key(row: Row) -> str:
    """Return the key of equal prompts: the prompt, or the whole text."""
    if row.text is not None:
        return " ".join(row.text.split())
    turns = "\0".join(f"{m.role}\1{' '.join(m.content.split())}\1{m.more}" for m in row.prompt)
    return f"{turns}\0{row.tools}"


def sample_numbers(count: int, limit: int | None, seed: int) -> np.ndarray:
    """Return ``limit`` of so many numbers, chosen by the seed, in order."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.array(sorted(random.Random(seed).sample(range(count), limit)), np.int64)


def choose_rows(rows: Sequence[T], limit: int | None, seed: int) -> Sequence[T]:
    """Return ``limit`` rows chosen by the seed, in file order (files are often sorted by class)."""
    if limit is None or limit >= len(rows):
        return rows
    return [rows[number] for number in sample_numbers(len(rows), limit, seed).tolist()]


def split_groups(
    groups: np.ndarray, fraction: float, seed: int, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into train and validation by a seeded choice of groups, such as equal prompts.

    Args:
        groups: equal numbers stay together, so that nothing validated was trained on [rows].
        fraction: of the rows that validate.
        seed: of the choice.
        labels: with them validation has the same fraction of each label's rows, as far as groups
            allow [rows]. A group counts for the label of its first row.

    Returns:
        Two masks, bool [rows].

    Raises:
        InputError: either split would be empty.
    """
    _, first, group, sizes = np.unique(
        groups, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.argsort(first).tolist()  # in the order of the file, whatever the hashes are
    random.Random(seed).shuffle(order)
    shuffled = np.asarray(order, np.int64)
    chosen = np.zeros(len(sizes), bool)
    if labels is None:
        strata = np.zeros(len(sizes), np.int64)
    else:
        strata = np.unique(labels, return_inverse=True)[1][first]
    by_stratum = shuffled[np.argsort(strata[shuffled], kind="stable")]
    edges = np.flatnonzero(np.diff(strata[by_stratum])) + 1
    for members in np.split(by_stratum, edges):
        rows = sizes[members]
        wanted = round(rows.sum() * fraction)
        if labels is None and fraction > 0:
            wanted = max(1, wanted)
        chosen[members[np.cumsum(rows) - rows < wanted]] = True
    validates = chosen[group]
    if validates.all() or not validates.any():
        raise InputError(
            f"{len(groups)} rows ({len(sizes)} prompts) split into {(~validates).sum()} to train "
            f"and {validates.sum()} to validate",
            where="data.validation_fraction",
            hint="name a data.validation file, give more rows, or change the fraction",
        )
    return ~validates, validates


def leave_out(rows: Sequence[Row], others: Sequence[Row]) -> list[Row]:
    """Return the rows whose prompt none of ``others`` has."""
    asked = {prompt_key(row) for row in others}
    return [row for row in rows if prompt_key(row) not in asked]


def hash_text(text: str) -> int:
    """Return 64 bits of a text's hash: of a million texts two meet with a chance of 3e-8."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
