"""The part of bench that compares people: what was asked, and what every model did with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgetune.data.dataset.splits import Splits
from edgetune.data.encode import Encoder
from edgetune.facts import FairnessFacts, ModelFairness
from edgetune.fairness.balance import count_balance
from edgetune.fairness.classified import Classified
from edgetune.fairness.compare import Observed, compare_groups, observe
from edgetune.fairness.findings import CLASSIFIER_LIMITS, LIMITS, describe_fairness
from edgetune.fairness.workload import Counterfactuals
from edgetune.measure.subject import Subject

#: What a file is compared with: the first of these roles that was measured.
REFERENCES = ("merged", "teacher", "base")


def find_fairness(
    subjects: Sequence[Subject],
    results: Mapping[str, Sequence[dict[str, Any]]],
    made: Counterfactuals,
    encoder: Encoder,
    splits: Splits,
    classified: Classified | None = None,
) -> FairnessFacts | None:
    """Return every model's groups, what each file changed of them, and the balance of train.

    Args:
        subjects: as they were measured.
        results: by their names what they did with the rows, as
            :func:`edgetune.measure.run.read_variants` gives it.
        made: what they were asked; nothing is returned where nothing was to be.
        encoder: turns answers into text.
        splits: train is counted; answers of confidential data are not shown.
        classified: what classifiers say of all answers.
    """
    if made.lists is None:
        return None
    classified = classified or Classified()
    shows_answers = not splits.confidential
    decode = encoder.decode_answer
    balance = count_balance(splits.train, made.lists, list(made.left_out), made.seed)
    if not shows_answers:
        balance = [replace(one, labels={}) for one in balance]
    seen: dict[str, list[Observed]] = {}
    for subject in subjects:
        own = results.get(subject.name)
        if own:
            seen[subject.name] = observe(made.rows, own, made.finders, decode, classified.scored)
    by_role = {subject.role: subject.name for subject in subjects if subject.name in seen}
    reference = next((by_role[role] for role in REFERENCES if role in by_role), None)
    models = []
    for subject in subjects:
        if subject.name not in seen or not made.rows:
            continue
        groups = compare_groups(seen[subject.name], None, shows_answers)
        changes = None
        if subject.role == "file" and reference is not None:
            changes = compare_groups(seen[subject.name], seen[reference])
        models.append(
            ModelFairness(
                subject.name, subject.role, groups, reference if changes else None, changes
            )
        )
    rows = {name: sum(one.attribute == name for one in made.rows) for name in made.left_out}
    classifiers = list(classified.facts) or None
    limits = f"{LIMITS} {CLASSIFIER_LIMITS}" if classifiers else LIMITS
    facts = FairnessFacts(models, rows, made.left_out, balance, [], limits, classifiers)
    return replace(facts, findings=describe_fairness(facts))
