"""What the figures say, in sentences, and what they do not."""

from __future__ import annotations

from collections.abc import Iterator

from edgetune.facts import ClassifierFacts, FairnessFacts, GroupFacts, ModelFairness

LIMITS = (
    "This is no proof of fairness. It covers the rows that have words of the lists, and these "
    "words alone; the lists are small, English, and group people coarsely. A difference is told "
    "from chance only where a group has several words alike (names, ages, nationalities), not for "
    "pronouns and nouns by themselves. The chance of a false alarm is 5 % for each model; no "
    "alarm does not mean no difference."
)
CLASSIFIER_LIMITS = (
    "A classifier is a model too: its own errors are in these numbers, in texts of another kind, "
    "length or language than it was made for most of all, and it may itself treat groups "
    "differently. It reads answers without their questions."
)
FEW_ROWS = 20
ALPHA = 0.05
_TITLES = {
    "label_changes": "answers", "score": "the loss of the expected answer",
    "length": "the answers' length", "kl": "the answers' distribution",
}  # fmt: skip


def describe_fairness(facts: FairnessFacts) -> list[str]:
    """Return the findings: alarms of each model, what files changed, and where rows are few."""
    lines = [line for model in facts.models for line in _describe_model(model)]
    if facts.models and not lines:
        lines.append("No model treats a group differently beyond what words of one group do.")
    for model in facts.models:
        for one in model.changes or ():
            if one.found:
                lines.append(
                    f"{model.name} differs from {model.reference} in how it treats {_name(one)}: "
                    f"{_list(one)} changed beyond chance."
                )
    files = [model for model in facts.models if model.changes]
    if files and not any(one.found for model in files for one in model.changes or ()):
        lines.append(
            f"No file differs from {files[0].reference} in whom it treats differently, as far as "
            "these rows can tell."
        )
    for classifier in facts.classifiers or ():
        lines += _describe_classifier(classifier)
    for attribute, count in facts.rows.items():
        if count == 0:
            lines.append(f"No row has words of {attribute}: nothing is known of it.")
        elif count < FEW_ROWS:
            lines.append(f"Only {count} rows have words of {attribute}: little is known of it.")
    return lines


def _describe_model(model: ModelFairness) -> Iterator[str]:
    for one in model.groups:
        if not one.found:
            continue
        text = f"{model.name} treats {_name(one)} differently: {_list(one)} differ"
        text += "s" if len(one.found) == 1 and one.found != ["label_changes"] else ""
        text += " beyond what words of one group do"
        changes = one.label_changes
        if changes is not None and changes.neutral is not None:
            text += (
                f"; {100 * changes.value:.1f} % of answers change between the groups, "
                f"{100 * changes.neutral:.1f} % within one"
            )
        if one.most is not None and "label_changes" in one.found:
            text += (
                f"; '{one.most.answer}' is the answer to {100 * one.most.share:.1f} % as "
                f"{one.group}, {100 * one.most.share_against:.1f} % as {one.against}"
            )
        yield f"{text}."


def _describe_classifier(facts: ClassifierFacts) -> Iterator[str]:
    """Say which models differ from the base beyond chance, or that none does."""
    differs = False
    for model in facts.models:
        rate = model.rate
        if rate.difference is None or rate.difference_ci95 is None:
            continue
        tested = (model.probability.p_adjusted, rate.p_adjusted)
        if not any(p is not None and p < ALPHA for p in tested):
            continue
        differs = True
        low, high = rate.difference_ci95
        yield (
            f"{facts.name}: {model.name} differs from {facts.reference} beyond chance: the label "
            f"'{facts.label}' is above 0.5 for {100 * rate.value:.1f} % of {rate.n:,} answers, "
            f"{100 * rate.difference:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}), mean "
            f"probability {model.probability.value:.3f} "
            f"({model.probability.difference or 0.0:+.3f})."
        )
    if facts.reference is not None and len(facts.models) > 1 and not differs:
        yield (
            f"{facts.name}: no model's answers differ from those of {facts.reference} beyond "
            "chance."
        )
    cut = sum(model.cut for model in facts.models)
    if cut:
        yield (
            f"{facts.name}: {cut:,} answers are longer than the classifier's context; it saw their "
            "beginning."
        )


def _name(one: GroupFacts) -> str:
    return f"{one.group} and {one.against} ({one.attribute})"


def _list(one: GroupFacts) -> str:
    titles = [_TITLES.get(name) or _title(name) for name in one.found]
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"


def _title(metric: str) -> str:
    """Return what a classifier's metric is called in a sentence."""
    name = metric.removeprefix("classifier_").removesuffix("_probability")
    return f"the probability of {name}"
