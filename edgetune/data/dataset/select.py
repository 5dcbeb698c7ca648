"""Which rows train, validate and test: decided on a few numbers a row, never on its text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgetune.data.dataset.shard import Shard
from edgetune.data.dataset.tables import RowTable
from edgetune.data.mixing import count_copies
from edgetune.data.split import sample_numbers, split_prompts
from edgetune.recipe import DataSection, DataSource


@dataclass(frozen=True)
class Columns:
    """Numbers of all rows of all sources, each an array [rows].

    Attributes:
        shard: which shard a row lies in.
        local: its number there.
        origin: number of the split whose source it came from.
        part: number of the source among those of its split.
        prompt: hash of the prompt, uint64.
        row: hash of prompt and answer, uint64.
    """

    shard: np.ndarray
    local: np.ndarray
    origin: np.ndarray
    part: np.ndarray
    prompt: np.ndarray
    row: np.ndarray

    @classmethod
    def of(cls, shards: Sequence[tuple[int, Shard]]) -> Columns:
        """Gather the columns of shards, each with the number of its split."""
        sizes = [len(shard) for _, shard in shards]
        return cls(
            shard=np.repeat(np.arange(len(shards)), sizes),
            local=np.concatenate([np.arange(size) for size in sizes]),
            origin=np.repeat([origin for origin, _ in shards], sizes),
            part=np.repeat([shard.part for _, shard in shards], sizes),
            prompt=np.concatenate([shard.prompt_hash for _, shard in shards]),
            row=np.concatenate([shard.row_hash for _, shard in shards]),
        )


def select_splits(
    columns: Columns, sources: Mapping[str, Sequence[DataSource]], section: DataSection, seed: int
) -> dict[str, np.ndarray]:
    """Return the numbers of each split's rows, in order; no ``test`` where validation is the test.

    Args:
        columns: of all rows.
        sources: of each split that has some, in the order of the splits' numbers.
        section: how rows are split and limited.
        seed: of the choices.
    """
    rows = {name: np.flatnonzero(columns.origin == at) for at, name in enumerate(sources)}
    if "validation" not in rows:
        train = rows["train"]
        trains, validates = split_prompts(columns.prompt[train], section.validation_fraction, seed)
        rows["train"], rows["validation"] = train[trains], train[validates]
    train = _apply_weights(columns, rows["train"], sources["train"], seed)
    rows["train"] = train[sample_numbers(len(train), section.limit, seed)]
    return rows


def _apply_weights(
    columns: Columns, rows: np.ndarray, sources: Sequence[DataSource], seed: int
) -> np.ndarray:
    """Return each row as often as the weight of its source says."""
    copies = np.ones(len(rows), np.int64)
    for number, source in enumerate(sources):
        own = np.flatnonzero(columns.part[rows] == number)
        copies[own] = count_copies(len(own), source.weight, seed, number)
    return np.repeat(rows, copies)


def count_duplicates(prompts: dict[str, np.ndarray]) -> dict[str, int]:
    """Count repeated train prompts, and validation and test prompts that train has too."""
    train = np.unique(prompts["train"])
    counts = {"train": len(prompts["train"]) - len(train)}
    for name in ("validation", "test"):
        counts[f"{name}_in_train"] = int(np.isin(prompts[name], train).sum())
    return counts


def without_prompts_of(rows: RowTable, others: Iterable[RowTable]) -> RowTable:
    """Return the rows whose prompt none of ``others`` has."""
    asked = np.concatenate([other.prompt_hashes for other in others])
    return rows.select(~np.isin(rows.prompt_hashes, asked))
