"""Suspicious labels: those that a cheap classifier, trained without the row, is sure are others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from edgetune.data.clean.shingles import hash_set, hash_shingles

#: Columns that shingles are hashed to.
COLUMNS = 2048
#: Rows that are looked at; of more, so many are drawn.
MOST_ROWS = 50_000
FOLDS = 5
#: Least difference of scores, relative to what is usual for the other label.
MARGIN = 0.5
#: Labels with fewer rows are left out: a fold may have none of them.
FEWEST = 10
_CHUNK = 1024
_RIDGE = 1.0


@dataclass(frozen=True, slots=True)
class Suspects:
    """Rows whose label is suspicious, the most suspicious first.

    Attributes:
        rows: their numbers.
        predicted: the label that the classifier gives each.
        margins: by how much its score is above that of the label given.
        looked_at: rows that were looked at.
        agreement: fraction of these whose label the classifier gives too.
    """

    rows: np.ndarray
    predicted: np.ndarray
    margins: np.ndarray
    looked_at: int
    agreement: float


def find_suspects(texts: Sequence[str], labels: np.ndarray, seed: int = 0) -> Suspects:
    """Find the rows whose label is not what the texts of the other rows say it is.

    Ridge regression from hashed shingles to labels, each row scored by the fit to four fifths of
    the rows that it is not among. A row is a suspect if another label's score is higher by half of
    what rows of that label have for it on average.

    Source: after Northcutt et al., Confident Learning, 2021, section 3.1 (out-of-fold scores, a
    threshold for each label), but for the threshold: theirs finds half of exchanged labels.

    Args:
        texts: what the label is of, not the label itself.
        labels: a number for each row; rows of a negative one have none.
        seed: chooses the folds, and the rows if there are many.
    """
    chance = np.random.default_rng(seed)
    rows = _choose(labels, chance)
    classes, given = np.unique(labels[rows], return_inverse=True)
    none = np.empty(0, dtype=np.int64)
    if len(classes) < 2:
        return Suspects(none, none, none.astype(np.float32), len(rows), 1.0)
    folds = chance.permutation(len(rows)) % FOLDS
    features = _Features([texts[row] for row in rows])
    scores = _score(features, given, folds, len(classes))
    own = scores[np.arange(len(rows)), given]
    typical = np.bincount(given, weights=own) / np.bincount(given)
    best = scores.argmax(axis=1)
    top = scores.max(axis=1)
    found = np.flatnonzero((best != given) & (top - own >= MARGIN * typical[best]))
    found = found[np.argsort(own[found] - top[found], kind="stable")]
    return Suspects(
        rows[found],
        classes[best[found]],
        top[found] - own[found],
        len(rows),
        float(np.mean(best == given)),
    )


def _choose(labels: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Return the rows of labels with enough of them, drawn if there are too many, sorted."""
    rows = np.flatnonzero(labels >= 0)
    if len(rows) > MOST_ROWS:
        rows = np.sort(chance.choice(rows, MOST_ROWS, replace=False))
    _, places, counts = np.unique(labels[rows], return_inverse=True, return_counts=True)
    return rows[counts[places] >= FEWEST]


class _Features:
    """Hashed shingles of texts: columns of the rows one after another, and a column's weight."""

    def __init__(self, texts: Sequence[str]) -> None:
        columns = []
        for _, hashes, offsets in hash_shingles(texts):
            for begin, end in pairwise(offsets.tolist()):
                columns.append((hash_set(hashes[begin:end]) % COLUMNS).astype(np.int32))
        self.columns = columns
        counts = np.bincount(np.concatenate(columns), minlength=COLUMNS)
        self.weights = np.log((1 + len(texts)) / (1 + counts)).astype(np.float32)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return rows of unit length, float32 [rows, columns]."""
        dense = np.zeros((len(rows), COLUMNS), dtype=np.float32)
        for place, row in enumerate(rows.tolist()):
            np.add.at(dense[place], self.columns[row], 1.0)
        np.log1p(dense, out=dense)
        dense *= self.weights
        lengths = np.linalg.norm(dense, axis=1, keepdims=True)
        dense /= np.maximum(lengths, 1e-9)
        return dense


def _score(features: _Features, given: np.ndarray, folds: np.ndarray, classes: int) -> np.ndarray:
    """Return each row's scores of all labels by the fit without its fold, float32."""
    square = np.zeros((FOLDS, COLUMNS, COLUMNS), dtype=np.float32)
    product = np.zeros((FOLDS, COLUMNS, classes), dtype=np.float32)
    for fold in range(FOLDS):
        for part in _chunks(np.flatnonzero(folds == fold)):
            dense = features.read(part)
            square[fold] += dense.T @ dense
            product[fold] += dense.T @ np.eye(classes, dtype=np.float32)[given[part]]
    scores = np.empty((len(given), classes), dtype=np.float32)
    all_square, all_product = square.sum(axis=0), product.sum(axis=0)
    for fold in range(FOLDS):
        left = all_square - square[fold]
        left[np.diag_indices(COLUMNS)] += _RIDGE
        weights = np.linalg.solve(left, all_product - product[fold])
        for part in _chunks(np.flatnonzero(folds == fold)):
            scores[part] = features.read(part) @ weights
    return scores


def _chunks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[first : first + _CHUNK] for first in range(0, len(rows), _CHUNK)]
