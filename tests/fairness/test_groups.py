"""Groups against words of one group: what is there is found, what is not is not, at 5 %."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgetune.data.rows import Row
from edgetune.facts import FairnessFacts, GroupBalance, ModelFairness
from edgetune.fairness import groups
from edgetune.fairness.compare import Observed, compare_groups
from edgetune.fairness.findings import LIMITS, describe_fairness
from edgetune.fairness.groups import RowValues, compare_dissimilar, compare_values
from edgetune.fairness.swap import SwappedRow, Version

ROW = Row((), "", "r")
POOLS = {group: [f"{group}{n}" for n in range(10)] for group in ("a", "b")}


def simulate(
    chance: np.random.Generator, rows: int, group_effect: float, word_effect: float, words: int = 10
) -> list[Observed]:
    """Return rows whose losses and answers depend on the row, its word and, if asked, its group."""
    of_word = {w: chance.normal(0, word_effect) for pool in POOLS.values() for w in pool}
    found = []
    for _ in range(rows):
        versions, scores = [], []
        level = chance.normal(0, 1)
        for group, pool in POOLS.items():
            for unit in chance.choice(pool[:words], 2, replace=False):
                versions.append(Version(group, str(unit), ROW))
                effect = of_word[str(unit)] + group_effect * (group == "b")
                scores.append(level + effect + chance.normal(0, 0.2))
        row = SwappedRow("gender", tuple(versions))
        found.append(
            Observed(
                row,
                ["yes" if score > 0 else "no" for score in scores],
                [3 + round(score) for score in scores],
                scores,
                [(scores[i] - scores[j]) ** 2 for i, j in row.pairs()],
            )
        )
    return found


def test_a_difference_between_groups_is_found_in_every_quantity() -> None:
    (one,) = compare_groups(simulate(np.random.default_rng(0), 60, 1.5, 0.0))
    assert one.found == ["label_changes", "score", "length", "kl"]
    assert (one.n, one.tested, one.words) == (60, 60, 20)
    assert one.score is not None and one.score.ci95 is not None
    assert one.score.ci95[0] < 1.5 < one.score.ci95[1]
    assert one.label_changes is not None and one.most is not None
    assert one.label_changes.value > 0.3 > 0.15 > (one.label_changes.neutral or 0)
    assert one.most.answer in ("yes", "no") and abs(one.most.share - one.most.share_against) > 0.3


@pytest.mark.parametrize("word_effect", [0.0, 0.8])
def test_words_that_matter_in_both_groups_alike_give_no_more_alarms_than_stated(
    word_effect: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 100 models without a group's effect at most 5 % plus three standard errors alarm."""
    monkeypatch.setattr(groups, "PERMUTATIONS", 999)
    chance = np.random.default_rng(7)
    alarms = sum(bool(compare_groups(simulate(chance, 40, 0.0, word_effect))[0].found)
                 for _ in range(100))  # fmt: skip
    assert alarms <= 100 * 0.05 + 3 * math.sqrt(100 * 0.05 * 0.95)


def test_a_file_that_treats_a_group_as_its_reference_does_changes_nothing() -> None:
    reference = simulate(np.random.default_rng(1), 60, 1.5, 0.2)
    (same,) = compare_groups(reference, reference)
    assert same.found == [] and same.score is not None and same.score.value == 0
    other = [
        Observed(one.row, one.answers, one.lengths,
                 [loss + (2 if v.group == "b" else 0)
                  for loss, v in zip(one.losses, one.row.versions, strict=True)], one.divergences)
        for one in reference
    ]  # fmt: skip
    (changed,) = compare_groups(other, reference)
    assert changed.found == ["score"] and changed.score is not None
    assert changed.score.value == pytest.approx(2)


def test_words_without_others_alike_are_described_and_not_tested() -> None:
    row = RowValues((False, True), ("", ""), {(0, 1): 1.0})
    found = compare_dissimilar([row] * 5)
    assert found is not None
    assert (found.value, found.neutral, found.p_value, found.n) == (1.0, None, None, 5)
    assert found.ci95 is not None and found.ci95[0] < 0.6, "five rows of five are not all rows"
    values = RowValues((False, True), ("", ""), {}, (1.0, 3.0))
    signed = compare_values([values] * 5)
    assert signed is not None and (signed.value, signed.p_value) == (2.0, None)
    assert compare_values([]) is None and compare_dissimilar([]) is None


def test_few_words_are_not_tested() -> None:
    (one,) = compare_groups(simulate(np.random.default_rng(3), 60, 3.0, 0.1, words=3))
    assert one.score is not None and one.score.p_value is None and one.found == []


def test_rows_whose_answer_changes_with_the_word_have_no_loss() -> None:
    rows = simulate(np.random.default_rng(4), 30, 0, 0.1)
    rows[:10] = [Observed(r.row, r.answers, r.lengths, [], []) for r in rows[:10]]
    (one,) = compare_groups(rows)
    assert one.score is not None and one.kl is not None and one.length is not None
    assert (one.score.n, one.kl.n, one.length.n) == (20, 20, 30)


def test_answers_of_confidential_rows_are_not_shown() -> None:
    rows = simulate(np.random.default_rng(0), 60, 1.5, 0.2)
    assert compare_groups(rows, None, shows_answers=False)[0].most is None


def test_findings_name_model_group_and_quantity_and_say_what_is_not_known() -> None:
    reference = simulate(np.random.default_rng(0), 60, 1.5, 0.2)
    compared = compare_groups(reference)
    model = ModelFairness("teacher", "teacher", compared)
    file = ModelFairness(
        "Q4.gguf", "file", compared, "teacher", compare_groups(reference, reference)
    )
    balance = [GroupBalance("gender", "a", 3, 9)]
    facts = FairnessFacts(
        [model, file], {"gender": 60, "age": 0, "origin": 4}, {}, balance, [], LIMITS
    )
    lines = describe_fairness(facts)
    assert lines[0].startswith("teacher treats b and a (gender) differently: answers, ")
    assert "of answers change between the groups" in lines[0] and "as b" in lines[0]
    assert any(line.startswith("No file differs from teacher") for line in lines)
    assert "No row has words of age: nothing is known of it." in lines
    assert any(line.startswith("Only 4 rows have words of origin") for line in lines)
    clean = compare_groups(simulate(np.random.default_rng(5), 60, 0, 0.2))
    model = ModelFairness("base", "base", clean)
    (line, *_) = describe_fairness(FairnessFacts([model], {"gender": 60}, {}, [], [], LIMITS))
    assert line.startswith("No model treats a group differently")
