"""Samples of an answer agree where at least the wanted fraction of them is equal to it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from edgetune.data.rows import Message
from edgetune.recipe import SynthesizeSection
from edgetune.synthesize.draft import Draft
from edgetune.synthesize.teacher import Question, Reply, Usage
from edgetune.synthesize.validators import Scene
from edgetune.synthesize.validators.asked import AgreementCheck, RoundTripCheck


class Fake:
    """Answers ``a`` so many times, and then ``b``."""

    def __init__(self, same: int) -> None:
        self.origin, self.usage, self._left = {"teacher": "fake"}, Usage(), same

    def ask(self, questions: Sequence[Question], scored: bool = False) -> list[Reply]:
        assert len({question.number for question in questions}) == len(questions)
        texts = ["a"] * self._left + ["b"] * len(questions)
        return [Reply(text) for text in texts[: len(questions)]]

    def with_system(self, prompt: Sequence[Message]) -> tuple[Message, ...]:
        return tuple(prompt)

    def close(self) -> None:
        """Nothing is held."""


def make_scene(same: int, **validators: object) -> Scene:
    section = SynthesizeSection.model_validate({"teacher": "m", "validators": validators})
    return Scene(section, [], [], Fake(same), Fake(same), None, 0)


DRAFT = Draft(0, "rows.jsonl:1", (Message("user", "x"),), "a")


@pytest.mark.parametrize(
    ("same", "least", "fault"),
    [(7, 0.7, ""), (6, 0.7, "agreement: 6 of 10"), (10, 1.0, ""), (9, 1.0, "agreement: 9 of 10"),
     (3, 0.3, ""), (0, 0.1, "agreement: 0 of 10")],
)  # fmt: skip
def test_a_fraction_of_the_samples_must_agree(same: int, least: float, fault: str) -> None:
    check = AgreementCheck(make_scene(same, agreement=least, samples=10))
    assert check.find_faults([DRAFT]) == [fault]


def test_another_answer_on_the_round_trip_is_a_fault() -> None:
    assert RoundTripCheck(make_scene(1, round_trip=True)).find_faults([DRAFT]) == [""]
    found = RoundTripCheck(make_scene(0, round_trip=True)).find_faults([DRAFT])
    assert found == ["round_trip: another answer"]
