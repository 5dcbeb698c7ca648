"""Every group of every model against its counterpart, and files against what they were made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgetune.facts import AnswerShare, GroupFacts, GroupFigure
from edgetune.fairness.groups import RowValues, compare_dissimilar, compare_values, find_units
from edgetune.fairness.swap import SwappedRow
from edgetune.fairness.words import Finder
from edgetune.measure.classify import TextProbabilities
from edgetune.measure.definitions import name_classified
from edgetune.measure.significance import holm

ALPHA = 0.05
FIGURES = ("label_changes", "score", "length", "kl")


@dataclass(frozen=True)
class Observed:
    """What a model did with one row's versions.

    Attributes:
        row: the versions.
        answers: to each, with the attribute's words masked.
        lengths: of each answer, in tokens.
        losses: of the expected answer after each; empty where it is not the same for all.
        divergences: of each of ``row.pairs()``; empty likewise.
        classified: by metric, the probability of a classifier's label for each answer.
    """

    row: SwappedRow
    answers: list[str]
    lengths: list[int]
    losses: list[float]
    divergences: list[float]
    classified: dict[str, list[float]] = field(default_factory=dict)


def observe(
    rows: Sequence[SwappedRow],
    results: Sequence[dict[str, Any]],
    finders: dict[str, Finder],
    decode: Callable[[Sequence[int]], str],
    scored: Mapping[str, TextProbabilities] | None = None,
) -> list[Observed]:
    """Return what a model did with each row.

    Args:
        rows: swapped rows.
        results: of each, as :func:`edgetune.measure.variants.measure_variants` gives them.
        finders: by attribute.
        decode: ids of an answer to its text.
        scored: by the classifier's name, probabilities of these texts.
    """
    found = []
    for row, result in zip(rows, results, strict=True):
        texts = [decode(ids) for ids in result["answers"]]
        found.append(
            Observed(
                row,
                [finders[row.attribute].mask(text).strip() for text in texts],
                [len(ids) for ids in result["answers"]],
                result["losses"],
                result["divergences"],
                {name_classified(name): [one.of(text) for text in texts]
                 for name, one in (scored or {}).items()},
            )
        )  # fmt: skip
    return found


def compare_groups(
    observed: Sequence[Observed],
    reference: Sequence[Observed] | None = None,
    shows_answers: bool = True,
) -> list[GroupFacts]:
    """Return every group against the first of its attribute, p-values adjusted over all of them.

    Args:
        observed: of a model.
        reference: of the same rows by the model that ``observed`` is compared with; absent: the
            figures are the model's own.
        shows_answers: whether texts may be shown.
    """
    found = []
    for attribute in dict.fromkeys(one.row.attribute for one in observed):
        numbers = [n for n, one in enumerate(observed) if one.row.attribute == attribute]
        groups = list(dict.fromkeys(v.group for n in numbers for v in observed[n].row.versions))
        rows = [observed[number] for number in numbers]
        against = [reference[number] for number in numbers] if reference is not None else None
        for group in groups[1:]:
            one = _compare(rows, against, group, groups[0])
            if reference is None and shows_answers:
                one = replace(one, most=_find_answer(rows, group, groups[0]))
            found.append(one)
    return _adjust(found)


def _compare(
    rows: Sequence[Observed], reference: Sequence[Observed] | None, group: str, against: str
) -> GroupFacts:
    """Return the figures of one group against another, or their differences to a reference's."""
    figures: dict[str, GroupFigure | None] = {}
    changes: list[RowValues] = []
    of_classifiers = list(rows[0].classified)
    for name in (*FIGURES, *of_classifiers):
        values = list(_values(rows, name, group, against))
        if reference is not None:
            others = _values(reference, name, group, against)
            values = [one.minus(other) for one, other in zip(values, others, strict=True)]
        if name not in ("label_changes", "kl"):
            figures[name] = compare_values(values)
        else:
            figures[name] = compare_dissimilar(values, two_sided=reference is not None)
        changes = changes or values
    classified = {name: one for name in of_classifiers if (one := figures.pop(name)) is not None}
    tested = [one for one in changes if one.is_tested]
    return GroupFacts(
        rows[0].row.attribute, group, against, len(rows), len(tested), len(find_units(tested)[0]),
        **figures, classified=classified or None,  # type: ignore[arg-type]
    )  # fmt: skip


def _values(rows: Sequence[Observed], name: str, group: str, against: str) -> Iterator[RowValues]:
    """Yield one quantity of the rows that have it, of the versions of two groups."""
    for one in rows:
        versions = one.row.versions
        kept = [n for n, version in enumerate(versions) if version.group in (group, against)]
        at = {number: place for place, number in enumerate(kept)}
        pairs = [pair for pair in one.row.pairs() if pair[0] in at and pair[1] in at]
        dissimilar: dict[tuple[int, int], float] = {}
        values: tuple[float, ...] = ()
        if name == "label_changes":
            dissimilar = {pair: float(one.answers[pair[0]] != one.answers[pair[1]])
                          for pair in pairs}  # fmt: skip
        elif name == "kl":
            known = dict(zip(one.row.pairs(), one.divergences, strict=False))
            dissimilar = {pair: known[pair] for pair in pairs if pair in known}
        elif name == "length":
            values = tuple(float(one.lengths[number]) for number in kept)
        elif name in one.classified:
            values = tuple(one.classified[name][number] for number in kept)
        else:
            values = tuple(one.losses[number] for number in kept if one.losses)
        if not dissimilar and not values:
            continue
        yield RowValues(
            tuple(versions[number].group == group for number in kept),
            tuple(versions[number].unit for number in kept),
            {(at[i], at[j]): value for (i, j), value in dissimilar.items()},
            values,
        )


def _find_answer(rows: Sequence[Observed], group: str, against: str) -> AnswerShare | None:
    """Return the answer whose share differs most, where answers repeat from row to row."""
    shares: dict[str, Counter[str]] = {group: Counter(), against: Counter()}
    for one in rows:
        for version, answer in zip(one.row.versions, one.answers, strict=True):
            if version.group in shares:
                shares[version.group][answer] += 1
    totals = {name: sum(counts.values()) for name, counts in shares.items()}
    every = set(shares[group]) | set(shares[against])
    if not every or len(every) > len(rows) / 2:
        return None

    def share(name: str, answer: str) -> float:
        return shares[name][answer] / totals[name]

    most = max(sorted(every), key=lambda answer: abs(share(group, answer) - share(against, answer)))
    return AnswerShare(most, share(group, most), share(against, most))


def _adjust(groups: Sequence[GroupFacts]) -> list[GroupFacts]:
    """Adjust the p-values of all groups and figures together, and say which are below 0.05."""
    known = {
        (number, name): figure.p_value
        for number, one in enumerate(groups)
        for name, figure in list_figures(one).items()
        if figure.p_value is not None
    }
    adjusted = dict(zip(known, holm(list(known.values())), strict=True))
    found = []
    for number, one in enumerate(groups):
        figures = {
            name: replace(figure, p_adjusted=adjusted.get((number, name)))
            for name, figure in list_figures(one).items()
        }
        names = [
            name
            for name, figure in figures.items()
            if figure.p_adjusted is not None and figure.p_adjusted < ALPHA
        ]
        own: dict[str, Any] = {name: figures[name] for name in FIGURES if name in figures}
        classified = {name: figure for name, figure in figures.items() if name not in own}
        found.append(replace(one, **own, classified=classified or None, found=names))
    return found


def list_figures(one: GroupFacts) -> dict[str, GroupFigure]:
    """Return the figures that a group has by name, those of classifiers last."""
    own = {name: getattr(one, name) for name in FIGURES}
    return {name: figure for name, figure in own.items() if figure} | (one.classified or {})
