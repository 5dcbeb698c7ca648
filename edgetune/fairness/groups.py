"""Differences between groups over the same rows, tested against words of one group.

R rows; a row has versions, each with a unit: the word that was put into it. That two versions of
different groups differ says little by itself, as any change of a word changes something. So the
test deals the units to the groups at random: how often do groups that mean nothing differ as much?
Sources: Clarke 1993 (ANOSIM, Australian Journal of Ecology 18, 117-143) for dissimilarities; the
permutation of units, not of rows, as the words of a group are a sample too (Clark 1973).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgetune.facts import GroupFigure
from edgetune.measure.statistics import Estimate, mean, proportion

PERMUTATIONS = 9_999
#: Words alike of each group that a test needs: of 3 and 3 no p-value could be below 0.05.
MIN_UNITS = 4
_CHUNK = 500  # permutations at a time


@dataclass(frozen=True)
class RowValues:
    """One quantity of one row's versions, of two groups.

    Attributes:
        is_group: for each version whether it is of the group, or of its counterpart.
        units: of each version; empty texts where a group has one version only.
        pairs: dissimilarity of two versions by their numbers; empty for a quantity of one version.
        values: of each version; empty for a dissimilarity.
    """

    is_group: tuple[bool, ...]
    units: tuple[str, ...]
    pairs: dict[tuple[int, int], float]
    values: tuple[float, ...] = ()

    @property
    def is_tested(self) -> bool:
        """Whether each group has words alike."""
        return all(self.units)

    def minus(self, other: RowValues) -> RowValues:
        """Return this row's quantity less another model's."""
        pairs = {key: value - other.pairs[key] for key, value in self.pairs.items()}
        values = tuple(a - b for a, b in zip(self.values, other.values, strict=True))
        return RowValues(self.is_group, self.units, pairs, values)

    def split(self) -> tuple[list[float], list[float]]:
        """Return dissimilarities across the groups and within them."""
        across: list[float] = []
        within: list[float] = []
        for (one, other), value in self.pairs.items():
            differs = self.is_group[one] != self.is_group[other]
            (across if differs else within).append(value)
        return across, within


def compare_dissimilar(rows: Sequence[RowValues], two_sided: bool = False) -> GroupFigure | None:
    """Return the mean dissimilarity across groups, against that within them.

    Args:
        rows: of one quantity with ``pairs``.
        two_sided: for the difference of two models, which may go either way.
    """
    split = [row.split() for row in rows]
    across = [float(np.mean(one)) for one, _ in split if one]
    if not across:
        return None
    between = _bounded_mean(across)
    excess = [float(np.mean(one) - np.mean(same)) for one, same in split if one and same]
    neutral = [float(np.mean(same)) for one, same in split if one and same]
    beyond = mean(excess) if excess else None
    return GroupFigure(
        between.value, _ends(between), float(np.mean(neutral)) if neutral else None,
        beyond.value if beyond else None, _ends(beyond),
        _test_dissimilar([row for row in rows if row.is_tested], two_sided), None, len(across),
    )  # fmt: skip


def compare_values(rows: Sequence[RowValues]) -> GroupFigure | None:
    """Return the mean difference of a quantity: of the group less its counterpart."""
    differences = []
    for row in rows:
        of = np.array(row.is_group)
        values = np.array(row.values)
        differences.append(float(values[of].mean() - values[~of].mean()))
    if not differences:
        return None
    found = mean(differences)
    tested = [row for row in rows if row.is_tested]
    return GroupFigure(
        found.value, _ends(found), None, None, None, _test_values(tested), None, len(differences)
    )


def _bounded_mean(values: Sequence[float]) -> Estimate:
    """Return a mean; where all rows are 0 or all are 1, with the interval of a fraction."""
    same = set(values)
    if same <= {0.0} or same <= {1.0}:
        return proportion(round(sum(values)), len(values))
    return mean(values)


def _ends(estimate: Estimate | None) -> list[float] | None:
    return list(estimate.ci95) if estimate and estimate.ci95 else None


def find_units(rows: Sequence[RowValues]) -> tuple[list[str], np.ndarray]:
    """Return the words that were put in, and whether each is of the group ``[U]``."""
    of = {unit: is_group for row in rows for unit, is_group in zip(row.units, row.is_group,
                                                                  strict=True)}  # fmt: skip
    units = sorted(of)
    return units, np.array([of[unit] for unit in units], bool)


def _test_dissimilar(rows: Sequence[RowValues], two_sided: bool) -> float | None:
    """Return the p-value of dissimilarities: of the mean across groups less that within them."""
    units, is_group_U = find_units(rows)
    if not _are_enough(is_group_U):
        return None
    number = {unit: at for at, unit in enumerate(units)}
    sums_UU, counts_UU = np.zeros((len(units),) * 2), np.zeros((len(units),) * 2)
    for row in rows:
        for (one, other), value in row.pairs.items():
            a, b = number[row.units[one]], number[row.units[other]]
            for at in ((a, b), (b, a)):
                sums_UU[at] += value
                counts_UU[at] += 1

    def measure(labels_QU: np.ndarray) -> np.ndarray:
        signs_QU = 2 * labels_QU - 1  # pairs of one group count +1, those of two groups -1
        sums_Q, counts_Q = (
            np.einsum("qu,qu->q", signs_QU @ matrix_UU, signs_QU)
            for matrix_UU in (sums_UU, counts_UU)
        )
        across_Q = (sums_UU.sum() - sums_Q) / np.maximum(counts_UU.sum() - counts_Q, 1)
        within_Q = (sums_UU.sum() + sums_Q) / np.maximum(counts_UU.sum() + counts_Q, 1)
        found_Q: np.ndarray = across_Q - within_Q
        return found_Q

    return _permute(measure, is_group_U, _find_strata(counts_UU), two_sided)


def _test_values(rows: Sequence[RowValues]) -> float | None:
    """Return the two-sided p-value of a quantity of versions.

    Of each unit the effect is estimated by least squares beside one effect of each row; what is
    compared are the units' effects, however often each was put in.
    """
    units, is_group_U = find_units(rows)
    if not _are_enough(is_group_U):
        return None
    number = {unit: at for at, unit in enumerate(units)}
    sums_U, normal_UU = np.zeros(len(units)), np.zeros((len(units),) * 2)
    for row in rows:
        at = [number[unit] for unit in row.units]
        np.add.at(sums_U, at, np.array(row.values) - float(np.mean(row.values)))
        np.add.at(normal_UU, (at, at), 1.0)
        np.add.at(normal_UU, np.ix_(at, at), -1 / len(at))
    effects_U = np.linalg.pinv(normal_UU, hermitian=True) @ sums_U

    def measure(labels_QU: np.ndarray) -> np.ndarray:
        count = labels_QU.sum(axis=1)
        group_Q = labels_QU @ effects_U / count
        found_Q: np.ndarray = group_Q - (1 - labels_QU) @ effects_U / (len(units) - count)
        return found_Q

    return _permute(measure, is_group_U, _find_strata(normal_UU), two_sided=True)


def _are_enough(is_group_U: np.ndarray) -> bool:
    return min(int(is_group_U.sum()), int((~is_group_U).sum())) >= MIN_UNITS


def _find_strata(linked_UU: np.ndarray) -> np.ndarray:
    """Return a number for each unit, the same for those that rows link: they may be exchanged."""
    strata_U = np.arange(len(linked_UU))
    while True:
        lowest_U = np.where(linked_UU != 0, strata_U[None], len(strata_U)).min(axis=1)
        lower_U = np.minimum(strata_U, lowest_U)
        if (lower_U == strata_U).all():
            return strata_U
        strata_U = lower_U


def _permute(
    measure: Callable[[np.ndarray], np.ndarray],
    is_group_U: np.ndarray,
    strata_U: np.ndarray,
    two_sided: bool,
) -> float:
    """Return how often units dealt to the groups at random differ as much as observed.

    Units are exchanged within their stratum. The observed deal counts as one of them (Phipson and
    Smyth 2010), so that no p-value is zero.
    """
    chance = np.random.default_rng(len(is_group_U))
    order_U = np.argsort(strata_U, kind="stable")
    labels_U = is_group_U.astype(np.float64)
    observed = float(measure(labels_U[None])[0])
    limit = (abs(observed) if two_sided else observed) - 1e-12
    beyond = 1
    for first in range(0, PERMUTATIONS, _CHUNK):
        size = min(_CHUNK, PERMUTATIONS - first)
        keys_QU = chance.random((size, len(labels_U))) + strata_U
        labels_QU = np.empty_like(keys_QU)
        labels_QU[:, order_U] = labels_U[np.argsort(keys_QU, axis=1)]
        found_Q = measure(labels_QU)
        beyond += int(((np.abs(found_Q) if two_sided else found_Q) >= limit).sum())
    return beyond / (1 + PERMUTATIONS)
