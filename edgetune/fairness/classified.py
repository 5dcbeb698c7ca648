"""What classifiers say of the answers to the test rows: of every model, and against the base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgetune.artifact import hash_json
from edgetune.data.encode import Encoder
from edgetune.facts import (
    ClassifiedFigure,
    ClassifierFacts,
    MeasuredModel,
    Measurement,
    ModelClassified,
)
from edgetune.measure.bootstrap import bounded_mean
from edgetune.measure.classify import TextProbabilities
from edgetune.measure.definitions import name_classified
from edgetune.measure.significance import holm, mcnemar
from edgetune.measure.statistics import (
    Estimate,
    compare_paired,
    paired_difference,
    proportion,
)

ABOVE = 0.5  # probability beyond which an answer counts as one of the label
REFERENCE = "base"  # role of the model that the others are compared with


@dataclass(frozen=True)
class Answers:
    """A model's answers to the test rows, as texts in the rows' order."""

    name: str
    role: str
    texts: Sequence[str]


@dataclass(frozen=True)
class Classified:
    """What classifiers say of answers.

    Attributes:
        answers: of every model, to the test rows.
        scored: by the classifier's name, probabilities of these texts, and of those to swapped
            rows.
        facts: of each classifier.
    """

    answers: Sequence[Answers] = ()
    scored: Mapping[str, TextProbabilities] = field(default_factory=dict)
    facts: Sequence[ClassifierFacts] = ()


def list_texts(
    answers: Sequence[Answers],
    variants: Mapping[str, Sequence[Mapping[str, Any]]],
    encoder: Encoder,
) -> Iterator[str]:
    """Yield every answer of every model: to the test rows, and to the versions of swapped rows."""
    for one in answers:
        yield from one.texts
    for results in variants.values():
        for result in results:
            yield from map(encoder.decode_answer, result["answers"])


def find_classified(
    scored: Mapping[str, TextProbabilities], answers: Sequence[Answers]
) -> Classified:
    """Return what each classifier says of each model's answers.

    Args:
        scored: by the classifier's name, probabilities of all these texts.
        answers: of every model, to the same rows; models without any are left out.
    """
    answered = [one for one in answers if one.texts]
    reference = next((one for one in answered if one.role == REFERENCE), None)
    found = []
    for name, one in scored.items():
        models = [_describe(name, one, model, reference) for model in answered]
        base = reference.name if reference else None
        facts = ClassifierFacts(
            name, one.model, one.classifier.label, one.sha256, base, _adjust(models)
        )
        found.append(facts)
    return Classified(answers, scored, found)


def _describe(
    name: str, scored: TextProbabilities, model: Answers, reference: Answers | None
) -> ModelClassified:
    """Return a model's numbers, and their differences to the reference's."""
    values = [scored.of(text) for text in model.texts]
    others = [scored.of(text) for text in reference.texts] if reference else []
    if model is reference:
        others = []
    return ModelClassified(
        model.name,
        model.role,
        _compare_means(name_classified(name), values, others),
        _compare_rates(name_classified(name, rate=True), values, others),
        sum(not text.strip() for text in model.texts),
        sum(text.strip() in scored.cut for text in model.texts),
    )


def _compare_means(
    metric: str, values: Sequence[float], others: Sequence[float]
) -> ClassifiedFigure:
    figure = _figure(metric, bounded_mean(values))
    if not others:
        return figure
    paired = compare_paired(values, others)
    return _with_difference(figure, paired.difference, paired.p_value)


def _compare_rates(
    metric: str, values: Sequence[float], others: Sequence[float]
) -> ClassifiedFigure:
    ours, theirs = [value > ABOVE for value in values], [value > ABOVE for value in others]
    figure = _figure(metric, proportion(sum(ours), len(ours)))
    if not theirs:
        return figure
    pairs = list(zip(ours, theirs, strict=True))
    gained, lost = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    return _with_difference(figure, paired_difference(ours, theirs), mcnemar(gained, lost))


def _figure(metric: str, estimate: Estimate) -> ClassifiedFigure:
    return ClassifiedFigure(metric, estimate.value, _ends(estimate), estimate.n)


def _with_difference(
    figure: ClassifiedFigure, difference: Estimate, p_value: float
) -> ClassifiedFigure:
    return replace(
        figure, difference=difference.value, difference_ci95=_ends(difference), p_value=p_value
    )


def _ends(estimate: Estimate) -> list[float] | None:
    return list(estimate.ci95) if estimate.ci95 else None


def _adjust(models: Sequence[ModelClassified]) -> list[ModelClassified]:
    """Adjust the p-values of a classifier's models and numbers together."""
    figures = [figure for one in models for figure in (one.probability, one.rate)]
    known = [figure.p_value for figure in figures if figure.p_value is not None]
    adjusted = iter(holm(known))
    found = [
        figure if figure.p_value is None else replace(figure, p_adjusted=next(adjusted))
        for figure in figures
    ]
    return [
        replace(one, probability=found[2 * number], rate=found[2 * number + 1])
        for number, one in enumerate(models)
    ]


def add_classified(models: Sequence[MeasuredModel], classified: Classified) -> list[MeasuredModel]:
    """Return the models with what classifiers say of them among their measurements."""
    texts = {one.name: one.texts for one in classified.answers}
    found = []
    for model in models:
        asked = next((one for one in model.measurements if one.name == "exact_match"), None)
        more: list[Measurement] = []
        for one in classified.facts:
            seen = next((entry for entry in one.models if entry.name == model.name), None)
            if seen is None or asked is None:
                continue
            values = [classified.scored[one.name].of(text) for text in texts[model.name]]
            rows = hash_json([one.sha256, one.label, asked.rows_sha256])
            place = {**asked.where, "classifier": one.model, "label": one.label}
            for figure, each in (
                (seen.probability, values),
                (seen.rate, [float(value > ABOVE) for value in values]),
            ):
                more.append(
                    Measurement(
                        figure.metric, figure.value, "", figure.n, figure.ci95, place, each, rows
                    )
                )
        found.append(replace(model, measurements=[*model.measurements, *more]))
    return found
