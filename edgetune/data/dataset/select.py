"""Which rows train, validate and test: decided on a few numbers a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgetune.data.clean import cap_groups
from edgetune.data.clean.clusters import connect_rows
from edgetune.data.dataset.columns import Columns
from edgetune.data.dataset.similar import SimilarRows, first_equal
from edgetune.data.dataset.tables import RowTable
from edgetune.data.mixing import count_copies
from edgetune.data.parts import is_synthetic
from edgetune.data.split import sample_numbers, split_groups
from edgetune.recipe import DataSection, DataSource


@dataclass(frozen=True)
class LeftOutRows:
    """Train rows that a step over all rows left out.

    Attributes:
        step: its key in ``data.clean``.
        reason: in words.
        rows: their numbers.
        others: for each the row that it equals or resembles, or −1.
    """

    step: str
    reason: str
    rows: np.ndarray
    others: np.ndarray


@dataclass
class Selection:
    """The rows of each split.

    Attributes:
        rows: numbers by split, in order; no ``test`` where the validation rows are the test.
        left_out: what steps over all rows left out.
        leaked: for each held-out row whether train has its prompt, or a similar one, bool [all].
        facts: counts of what was found, by step.
    """

    rows: dict[str, np.ndarray]
    leaked: np.ndarray
    left_out: list[LeftOutRows] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def leave_out(self, step: str, reason: str, rows: np.ndarray, others: np.ndarray) -> None:
        """Take rows out of train."""
        self.left_out.append(LeftOutRows(step, reason, rows, others))
        self.rows["train"] = self.rows["train"][~np.isin(self.rows["train"], rows)]


def select_splits(
    columns: Columns, sources: Mapping[str, Sequence[DataSource]], section: DataSection, seed: int,
    similar: SimilarRows,
) -> Selection:  # fmt: skip
    """Choose the rows of each split.

    Args:
        columns: of all rows.
        sources: of each split that has some, in the order of the splits' numbers.
        section: how rows are cleaned, split and limited.
        seed: of the choices.
        similar: finds rows of similar text.
    """
    rows = {name: np.flatnonzero(columns.origin == at) for at, name in enumerate(sources)}
    chosen = Selection(rows, np.zeros(len(columns.row), bool))
    cluster = _find_duplicates(chosen, columns, section, similar)
    if "validation" not in rows:
        synthetic = _find_synthetic(columns, rows["train"], sources)
        rows["train"], rows["validation"] = _split(
            columns, rows["train"], synthetic, cluster, section, seed
        )
    _find_leaks(chosen, columns, section, similar)
    _balance(chosen, columns, section, cluster, seed)
    train = _apply_weights(columns, rows["train"], sources["train"], seed)
    kept = _find_synthetic(columns, train, sources)
    own = np.flatnonzero(~kept)
    kept[own[sample_numbers(len(own), section.limit, seed)]] = True
    canaries = np.flatnonzero(columns.origin == len(sources))
    rows["train"] = np.concatenate([train[kept], canaries])
    return chosen


def _find_duplicates(
    chosen: Selection, columns: Columns, section: DataSection, similar: SimilarRows
) -> np.ndarray:
    """Find equal and similar train rows; return the first row of each one's cluster [all rows]."""
    clean = section.clean
    cluster = np.arange(len(columns.row))
    train = chosen.rows["train"]
    first = train[first_equal(columns.row[train])]
    cluster[train] = first
    repeated = first != train
    if clean.duplicates != "off":
        chosen.facts["duplicates"] = {"rows": int(repeated.sum())}
        if clean.duplicates == "fix":
            chosen.leave_out("duplicates", "equals", train[repeated], first[repeated])
    if clean.near_duplicates != "off":
        different = train[~repeated]
        names, pairs = similar.cluster(different)
        cluster[different] = names
        cluster[train] = cluster[first]
        others = names != different
        chosen.facts["near_duplicates"] = {"rows": int(others.sum()), "pairs": pairs}
        if clean.near_duplicates == "fix":
            chosen.leave_out("near_duplicates", "resembles", different[others], names[others])
    return cluster


def _groups(
    columns: Columns, rows: np.ndarray, cluster: np.ndarray, section: DataSection
) -> np.ndarray:
    """Return the number of each row's group, whose rows stay in one split."""
    groups = first_equal(columns.prompt[rows])
    if section.split.group_by == "prompt":
        return groups
    other = cluster if section.split.group_by == "cluster" else columns.group
    return connect_rows(groups, np.arange(len(rows)), first_equal(other[rows]))


def _find_leaks(
    chosen: Selection, columns: Columns, section: DataSection, similar: SimilarRows
) -> None:
    """Mark held-out rows whose prompts, or similar ones, train has; leave those out if asked to."""
    train = chosen.rows["train"]
    held_out = np.concatenate([rows for name, rows in chosen.rows.items() if name != "train"])
    chosen.leaked[held_out] = np.isin(columns.prompt[held_out], columns.prompt[train])
    first = np.unique(columns.prompt[held_out], return_index=True)
    equal = train[np.isin(columns.prompt[train], first[0])]
    others = held_out[first[1][np.searchsorted(first[0], columns.prompt[equal])]]
    clean = section.clean
    if clean.leakage == "off":
        return
    pairs = similar.find_leaks(train, held_out)
    chosen.leaked[pairs.left] = True
    left_out, place = np.unique(np.concatenate([equal, pairs.right]), return_index=True)
    others = np.concatenate([others, pairs.left])[place]
    names = [name for name in chosen.rows if name != "train"]
    chosen.facts["leakage"] = {
        "train_rows": len(left_out),
        **{f"{name}_rows": int(chosen.leaked[chosen.rows[name]].sum()) for name in names},
    }
    if clean.leakage == "fix":
        chosen.leave_out("leakage", "leaks", left_out, others)
        chosen.leaked[:] = False


def _balance(
    chosen: Selection, columns: Columns, section: DataSection, cluster: np.ndarray, seed: int
) -> None:
    """Leave out train rows beyond the caps of labels and clusters."""
    for key, names in (("max_per_label", columns.label), ("max_per_cluster", cluster)):
        cap = getattr(section.clean, key)
        if cap is not None:
            train = chosen.rows["train"]
            over = train[~cap_groups(first_equal(names[train]), cap, seed)]
            chosen.facts[key] = {"rows": len(over)}
            chosen.leave_out(key, f"beyond {key} {cap}", over, np.full(len(over), -1))


def _find_synthetic(
    columns: Columns, rows: np.ndarray, sources: Mapping[str, Sequence[DataSource]]
) -> np.ndarray:
    """Return which train rows are of a source that `edgetune synthesize` made, bool [rows]."""
    written = [number for number, one in enumerate(sources["train"]) if is_synthetic(one)]
    return np.isin(columns.part[rows], written)


def _split(
    columns: Columns, rows: np.ndarray, synthetic: np.ndarray, cluster: np.ndarray,
    section: DataSection, seed: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return the rows that train and those that validate: of these none is synthetic.

    The choice among the others does not depend on the synthetic rows, which were written about the
    train rows of that choice. One with the prompt of a validation row is left out.
    """
    own = rows[~synthetic]
    _, validates = split_groups(
        _groups(columns, own, cluster, section), section.validation_fraction, seed,
        columns.label[own] if section.split.stratify else None,
    )  # fmt: skip
    validation = own[validates]
    held_out = np.isin(rows, validation)
    held_out |= synthetic & np.isin(columns.prompt[rows], columns.prompt[validation])
    return rows[~held_out], validation


def _apply_weights(
    columns: Columns, rows: np.ndarray, sources: Sequence[DataSource], seed: int
) -> np.ndarray:
    """Return each row as often as the weight of its source says."""
    copies = np.ones(len(rows), np.int64)
    for number, source in enumerate(sources):
        own = np.flatnonzero(columns.part[rows] == number)
        copies[own] = count_copies(len(own), source.weight, seed, number)
    return np.repeat(rows, copies)


def count_duplicates(prompts: Mapping[str, np.ndarray]) -> dict[str, int]:
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
