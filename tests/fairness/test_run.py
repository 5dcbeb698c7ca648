"""What models left in bench's scratch folder becomes facts: their own, and what files changed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from edgetune.data.dataset.splits import Splits
from edgetune.data.encode import Encoder
from edgetune.data.rows import Message, Row
from edgetune.facts import FairnessFacts, MeasuredModel, Measurement, to_json
from edgetune.fairness.classified import Answers, Classified, add_classified, find_classified
from edgetune.fairness.lists import read_lists
from edgetune.fairness.run import find_fairness
from edgetune.fairness.swap import SwappedRow, Swapper
from edgetune.fairness.workload import Counterfactuals
from edgetune.measure.classify import TextProbabilities
from edgetune.measure.subject import Subject
from edgetune.models.classifier import Classifier

LISTS = read_lists(None)


@dataclass
class Letters:
    """Turns ids into letters."""

    def decode_answer(self, ids: list[int]) -> str:
        return "".join(chr(id) for id in ids)


@dataclass
class Rows:
    """The rows of train."""

    train: list[Row]
    confidential: bool = False


def make_row(name: str, answer: str) -> Row:
    return Row(
        (Message("user", f"{name} asks for a loan"), Message("assistant", answer)), None, "r"
    )


def make_result(row: SwappedRow, biased: bool) -> dict[str, Any]:
    answers = ["yes" if biased and version.group == "male" else "no" for version in row.versions]
    losses = [float(answer == "no") for answer in answers]
    return {
        "answers": [[ord(letter) for letter in answer] for answer in answers],
        "losses": losses,
        "divergences": [abs(losses[i] - losses[j]) for i, j in row.pairs()],
    }


def find(
    tmp_path: Path, confidential: bool = False, classified: Classified | None = None
) -> FairnessFacts | None:
    swapper = Swapper(LISTS, "gender", 0)
    rows = [swapper.swap(make_row("Emily", "yes")) for _ in range(40)]
    swapped = [row for row in rows if isinstance(row, SwappedRow)]
    made = Counterfactuals(swapped, [], {"gender": swapper.finder}, {"gender": {}}, LISTS)
    subjects, results = [], {}
    for name, role, biased in (("merged", "merged", True), ("a.gguf", "file", True),
                               ("b.gguf", "file", False), ("c.gguf", "file", True)):  # fmt: skip
        subjects.append(Subject(name, role, tmp_path / name, "gguf", "?", 1, ""))
        if name != "c.gguf":  # that could not be measured
            results[name] = [make_result(row, biased) for row in swapped]
    train = Rows([make_row("Emily", "no"), make_row("Peter", "yes")] * 5, confidential)
    return find_fairness(
        subjects, results, made, cast(Encoder, Letters()), cast(Splits, train), classified
    )


def test_a_biased_model_and_file_are_found_and_a_file_that_differs_is_named(tmp_path: Path) -> None:
    facts = find(tmp_path)
    assert facts is not None and facts.rows == {"gender": 40}
    assert [model.name for model in facts.models] == ["merged", "a.gguf", "b.gguf"]
    merged, same, other = facts.models
    assert merged.groups[0].found == ["label_changes", "score", "length", "kl"]
    assert merged.changes is None and other.reference == "merged"
    assert same.groups[0].found == merged.groups[0].found
    assert other.groups[0].found == []
    assert same.changes is not None and same.changes[0].found == []
    assert other.changes is not None and "label_changes" in other.changes[0].found
    most = merged.groups[0].most
    assert most is not None and {most.share, most.share_against} == {0.0, 1.0}
    assert any(line.startswith("b.gguf differs from merged") for line in facts.findings)
    counts = {one.group: one.labels for one in facts.balance}
    assert counts == {"female": {"no": 5}, "male": {"yes": 5}}


def test_no_answer_of_confidential_rows_is_in_the_facts(tmp_path: Path) -> None:
    facts = find(tmp_path, confidential=True)
    assert facts is not None and all(one.labels == {} for one in facts.balance)
    assert all(group.most is None for model in facts.models for group in model.groups)


def test_nothing_is_found_where_nothing_was_asked(tmp_path: Path) -> None:
    nothing = Counterfactuals()
    encoder, splits = cast(Encoder, Letters()), cast(Splits, Rows([]))
    assert find_fairness([], {}, nothing, encoder, splits) is None


def test_a_classifier_finds_whose_answers_have_its_label_and_what_a_file_changed(
    tmp_path: Path,
) -> None:
    """A model that answers men with 'yes', of which the classifier thinks more than of 'no'."""
    polite = Classifier(tmp_path, "agrees", 1, "softmax")
    scored = {"agrees": TextProbabilities(polite, "polite", "0", {"yes": 0.9, "no": 0.2})}
    base, tuned = ["no"] * 40, ["yes"] * 30 + [""] * 10
    answers = [Answers("base", "base", base), Answers("merged", "merged", tuned)]
    facts = find(tmp_path, classified=find_classified(scored, answers))
    assert facts is not None and facts.classifiers is not None
    metric = "classifier_agrees_probability"
    merged, same, other = facts.models
    for model in (merged, same):
        (group,) = model.groups
        assert group.classified is not None and metric in group.found
        figure = group.classified[metric]
        assert figure.value == pytest.approx(0.7) and figure.n == 40
        assert figure.p_adjusted is not None and figure.p_adjusted < 0.05
    assert other.groups[0].classified is not None and metric not in other.groups[0].found
    assert other.groups[0].classified[metric].value == 0
    assert same.changes is not None and same.changes[0].classified is not None
    assert same.changes[0].classified[metric].value == 0 and same.changes[0].found == []
    assert other.changes is not None and other.changes[0].classified is not None
    assert other.changes[0].classified[metric].value == pytest.approx(-0.7)
    assert metric in other.changes[0].found

    (one,) = facts.classifiers
    assert (one.name, one.model, one.label, one.reference) == ("agrees", "polite", "agrees", "base")
    first, second = one.models
    assert first.probability.value == pytest.approx(0.2) and first.probability.difference is None
    assert second.empty == 10 and second.cut == 0
    assert second.probability.value == pytest.approx(0.9 * 30 / 40)  # an empty answer has 0
    assert second.probability.difference == pytest.approx(0.9 * 30 / 40 - 0.2)
    assert (second.rate.value, second.rate.difference) == (0.75, 0.75)
    low, high = second.rate.ci95 or (0, 0)
    assert 0.55 < low < 0.75 < high < 0.9, "Wilson's, of 30 of 40"
    assert second.rate.p_adjusted is not None and second.rate.p_adjusted < 1e-6
    assert any("merged differs from base beyond chance" in line for line in facts.findings)
    assert any("the probability of agrees" in line for line in facts.findings)
    assert "A classifier is a model too" in facts.limits
    assert json.loads(json.dumps(to_json(facts)))["classifiers"][0]["models"][1]["rate"]["n"] == 40


def test_measurements_of_a_classifier_have_the_value_of_each_row(tmp_path: Path) -> None:
    polite = Classifier(tmp_path, "agrees", 1, "softmax")
    scored = {"agrees": TextProbabilities(polite, "polite", "0", {"yes": 0.9, "no": 0.2})}
    found = find_classified(scored, [Answers("m", "merged", ["yes", "no", "yes", " no "])])
    assert found.facts[0].reference is None, "without a base there is nothing to compare with"
    exact = Measurement("exact_match", 1.0, "", 4, None, {"device": "cpu"}, [1.0] * 4, "digest")
    model = MeasuredModel("m", "merged", "hf", "F32", "m", "", 1, [exact])
    unasked = MeasuredModel("u", "file", "gguf", "F32", "u", "", 1, [])
    with_them, without = add_classified([model, unasked], found)
    assert without == unasked
    mean, rate = with_them.measurements[1:]
    assert (mean.name, mean.rows) == ("classifier_agrees_probability", [0.9, 0.2, 0.9, 0.2])
    assert (rate.name, rate.rows, rate.value) == ("classifier_agrees_rate", [1, 0, 1, 0], 0.5)
    assert mean.where == {"device": "cpu", "classifier": "polite", "label": "agrees"}
    again = [Measurement(**{**vars(exact), "rows_sha256": "others"})]
    (other,) = add_classified([MeasuredModel(**{**vars(model), "measurements": again})], found)
    assert other.measurements[1].rows_sha256 != mean.rows_sha256, "other rows are not paired"


def test_a_metric_is_not_called_beyond_chance_where_models_answer_alike(tmp_path: Path) -> None:
    polite = Classifier(tmp_path, "agrees", 1, "softmax")
    scored = {"agrees": TextProbabilities(polite, "polite", "0", {"yes": 0.9, "no": 0.2})}
    answers = [Answers(name, name, ["yes", "no"] * 20) for name in ("base", "merged")]
    facts = find(tmp_path, classified=find_classified(scored, answers))
    assert facts is not None
    assert any("no model's answers differ from those of base" in line for line in facts.findings)
