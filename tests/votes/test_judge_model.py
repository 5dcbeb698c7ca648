"""A judge model is asked in both orders, and what it says is read as a vote or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from edgetune.data.rows import Message
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.synthesize.teacher import Question, Reply, Usage
from edgetune.votes.judge_model import Judge, ask_judge, open_judge, read_verdict
from edgetune.votes.page import read_page

from .pages import make_page


class FakeTeacher:
    """Says what ``reply`` makes of the request."""

    def __init__(self, better: str) -> None:
        self.origin, self.usage, self.better = {"teacher": "fake"}, Usage(), better
        self.asked: list[str] = []

    def with_system(self, prompt: Sequence[Message]) -> tuple[Message, ...]:
        return tuple(prompt)

    def ask(self, questions: Sequence[Question], scored: bool = False) -> list[Reply]:
        texts = [question.turns[-1].content for question in questions]
        self.asked += texts
        return [Reply(self._reply(text)) for text in texts]

    def _reply(self, text: str) -> str:
        first = text.partition("<answer_1>")[2].partition("</answer_1>")[0]
        return (
            f"Because.\n[[{1 if self.better in first else 2}]]" if self.better else "I cannot say"
        )

    def close(self) -> None:
        pass


def test_both_orders_are_asked_and_a_consistent_model_votes_alike(tmp_path: Path) -> None:
    page, key = make_page(5)
    (tmp_path / "p.html").write_text(page, encoding="utf-8")
    _, items = read_page(tmp_path / "p.html")
    teacher = FakeTeacher("answer 1 of")
    ballot = ask_judge(Judge("fake.gguf"), teacher, key, items, Log(quiet=True))
    assert len(teacher.asked) == 10 and len(set(teacher.asked)) == 10
    for number, item in enumerate(key.items):
        wanted = "first" if item.first == 1 else "second"
        other = "second" if wanted == "first" else "first"
        assert ballot.votes[number, False].choice == wanted
        assert ballot.votes[number, True].choice == other
    assert (ballot.kind, ballot.name, ballot.unreadable) == ("model", "fake.gguf", 0)
    assert not [text for text in teacher.asked if "secret" in text]


def test_a_model_that_never_votes_is_refused(tmp_path: Path) -> None:
    page, key = make_page(2)
    (tmp_path / "p.html").write_text(page, encoding="utf-8")
    with pytest.raises(InputError, match="none of 4 replies"):
        ask_judge(
            Judge("x"), FakeTeacher(""), key, read_page(tmp_path / "p.html")[1], Log(quiet=True)
        )


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("[[1]]", "first"),
        ("at first [[1]], but then\n[[ TIE ]]", "tie"),
        ("Both are wrong.\n[[bad]]", "bad"),
        ("2", "second"),
        ("They differ.\nAnswer 1.", "first"),
        ("Answer 1 is longer than answer 2", None),
        ("12", None),
        ("", None),
    ],
)
def test_only_a_verdict_is_a_vote(text: str, choice: str | None) -> None:
    assert read_verdict(Reply(text)) == choice


def test_an_endpoint_needs_the_name_of_a_model() -> None:
    with pytest.raises(InputError, match="no name"):
        open_judge(Judge("http://127.0.0.1:1/v1"))
