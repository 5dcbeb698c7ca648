"""Checks that ask a model again: the same answer once more, or most of several samples."""

from __future__ import annotations

from collections.abc import Sequence

from edgetune.data.rows import Message
from edgetune.synthesize.draft import Draft, number_of
from edgetune.synthesize.teacher import Question
from edgetune.synthesize.validators import Scene


class RoundTripCheck:
    """The checker answers the written prompt as the row does, or answers the template with yes."""

    def __init__(self, scene: Scene) -> None:
        self._checker, self._template = scene.checker, scene.check

    def find_faults(self, drafts: Sequence[Draft]) -> list[str]:
        replies = self._checker.ask([self._question(draft) for draft in drafts])
        return [
            "" if self._agrees(draft, reply.text) else "round_trip: another answer"
            for draft, reply in zip(drafts, replies, strict=True)
        ]

    def accept(self, drafts: Sequence[Draft]) -> None:
        """Nothing is remembered."""

    def _question(self, draft: Draft) -> Question:
        if self._template is None:
            return Question(self._checker.with_system(draft.prompt), 0, 0.0)
        text = self._template.render(prompt=draft.asked, answer=draft.answer, examples=[])
        return Question((Message("user", text),), 0, 0.0)

    def _agrees(self, draft: Draft, said: str) -> bool:
        if self._template is not None:
            return said.lstrip(" *\"'").lower().startswith("yes")
        return said == draft.answer


class AgreementCheck:
    """A fraction of sampled answers equals the written one.

    (Self-consistency: Wang et al. 2023, arXiv 2203.11171, section 2.)
    """

    def __init__(self, scene: Scene) -> None:
        section = scene.section
        assert section.validators.agreement is not None
        self._least, self._samples = section.validators.agreement, section.validators.samples
        self._teacher, self._seed = scene.teacher, scene.seed
        self._heat = section.heat or 1.0

    def find_faults(self, drafts: Sequence[Draft]) -> list[str]:
        questions = [
            Question(
                self._teacher.with_system(draft.prompt),
                number_of(f"{self._seed}\0{draft.number}\0agreement {sample}"),
                self._heat,
            )
            for draft in drafts
            for sample in range(self._samples)
        ]
        replies = self._teacher.ask(questions)
        reasons = []
        for place, draft in enumerate(drafts):
            some = replies[place * self._samples : (place + 1) * self._samples]
            same = sum(reply.text == draft.answer for reply in some)
            few = same / self._samples < self._least
            reasons.append(f"agreement: {same} of {self._samples}" if few else "")
        return reasons

    def accept(self, drafts: Sequence[Draft]) -> None:
        """Nothing is remembered."""
