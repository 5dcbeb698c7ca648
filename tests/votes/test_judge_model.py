"""A judge model is asked in both orders, and what it says is read as a vote or not at all."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgetune.data.rows import Message
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.synthesize.teacher import LocalTeacher, Reply, Usage
from edgetune.synthesize.teacher import Question as Asked
from edgetune.votes.agreement import settle
from edgetune.votes.ballots import PERSON, Ballot, Vote, read_ballots, write_votes
from edgetune.votes.counted import Counted
from edgetune.votes.judge_model import (
    LIKELIHOOD,
    Judge,
    ask_judge,
    open_judge,
    read_verdict,
)
from edgetune.votes.page import Key, Question, read_page, write_page
from edgetune.votes.pairs import choose_items
from edgetune.votes.results import count_all
from edgetune.votes.table import render_table
from tests.model_files import make_gguf

from .pages import make_page


class FakeTeacher:
    """Says what ``reply`` makes of the request."""

    def __init__(self, better: str) -> None:
        self.origin, self.usage, self.better = {"teacher": "fake"}, Usage(), better
        self.asked: list[str] = []

    def with_system(self, prompt: Sequence[Message]) -> tuple[Message, ...]:
        return tuple(prompt)

    def ask(self, questions: Sequence[Asked], scored: bool = False) -> list[Reply]:
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
    with pytest.raises(InputError, match=r"none of 4 replies .*of 4: it ends with no verdict"):
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


def make_intents(rows: int, times: int = 1) -> tuple[str, Key, list[int]]:
    """Return a page of right and wrong intents, its key, and the model that is right on each row.

    The first model is right on four rows of five, as people see.
    """
    prompts = [f"play the song number {n} by the band " * times for n in range(rows)]
    right = [0 if n % 5 else 1 for n in range(rows)]
    answers = [["PlayMusic" if right[n] == model else "GetWeather" for n in range(rows)]
               for model in range(2)]  # fmt: skip
    items, pairs = choose_items(answers, 1000, 0)
    questions = [Question([("user", prompt)]) for prompt in prompts]
    return *write_page(["good", "poor"], answers, questions, (items, pairs, 0), False), right


def let_people_vote(key: Key, right: list[int], file: Path) -> None:
    """Write the votes of three simulated people, who see the right answer nine times of ten."""
    draw = random.Random(0)
    for person in range(3):
        ballot = Ballot(f"person {person}", f"p{person}", PERSON)
        for number, item in enumerate(key.items):
            sees = draw.random() < 0.9
            choice = "first" if (item.first == right[item.row]) == sees else "second"
            ballot.votes[number, False] = Vote(number, choice)
        write_votes(file.with_name(f"{file.stem}-{person}.json"), key, ballot)


def judge_and_count(judge: Judge, tmp_path: Path, rows: int, times: int = 1) -> dict[str, Any]:
    """Return what votes of a judge model and of simulated people say."""
    page, key, right = make_intents(rows, times)
    (tmp_path / "p.html").write_text(page, encoding="utf-8")
    _, items = read_page(tmp_path / "p.html")
    teacher = open_judge(judge)
    ballot = ask_judge(judge, teacher, key, items, Log(quiet=True))
    teacher.close()
    write_votes(tmp_path / "judge.json", key, ballot)
    let_people_vote(key, right, tmp_path / "people.json")
    return count_all(*read_ballots(sorted(tmp_path.glob("*.json"))))


def test_requests_longer_than_a_models_context_are_no_votes(
    tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="tokens are more than its context of 512 holds"):
        judge_and_count(Judge(str(tiny_model), by=LIKELIHOOD), tmp_path, 12, times=20)


@pytest.mark.parametrize("make", [lambda folder: folder, make_gguf], ids=["torch", "llama.cpp"])
def test_the_likelier_verdict_is_the_vote(tiny_model: Path, make: Callable[[Path], Path]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    teacher = open_judge(Judge(str(make(tiny_model)), by=LIKELIHOOD))
    assert isinstance(teacher, LocalTeacher)
    assert teacher.context == 512
    options = ("light", "forty", "[[1]]", "[[2]]", "percent", "x")
    asked = [f"{word} {word} {word}?" for word in ("light", "turn", "set", "level", "1", "to", "}")]
    turns = [(Message("user", text),) for text in asked]
    found = teacher.choose([Asked(one, 0, 0.0) for one in turns], options)
    teacher.close()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    for text, reply in zip(asked, found, strict=True):
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        sums = []
        for option in options:
            ids = tokenizer.encode(option, add_special_tokens=False)
            with torch.inference_mode():
                logits_TV = model(torch.tensor([[*prompt, *ids]])).logits[0].double()
            log_probs_TV = logits_TV.log_softmax(-1)[len(prompt) - 1 : -1]
            sums.append(float(log_probs_TV[range(len(ids)), ids].sum()))
        assert reply.text == options[sums.index(max(sums))] and not reply.fault
        assert reply.likelihood == pytest.approx(max(sums) / len(ids), abs=1e-4)
    assert len({reply.text for reply in found}) > 1, "one verdict for all would prove little"


def test_votes_that_do_not_look_at_the_answers_agree_by_chance_alone() -> None:
    """Of a side-blind model both orders agree as often as said; of one that reads, always."""
    draw = np.random.default_rng(0)
    items = np.repeat(np.arange(4000), 2)
    first = np.tile([0, 1], 4000)
    blind = draw.choice(["first", "second", "tie"], len(items), p=[0.6, 0.3, 0.1]).astype("<U6")
    reads = np.where(first == items % 2, "first", "second").astype("<U6")
    for choices, wanted in ((blind, 2 * 0.6 * 0.3 + 0.1**2), (reads, 1.0)):
        votes = Counted(["a", "b"], items, items, items * 0, first, 1 - first, choices)
        both, chance, settled = settle(votes)
        assert np.mean(both) == pytest.approx(wanted, abs=0.03) and len(settled) == 4000
        assert chance == pytest.approx(0.37 if choices is blind else 0.5, abs=0.02)


@pytest.mark.slow
def test_a_small_real_judge_model_votes_by_the_order_and_the_output_says_so(tmp_path: Path) -> None:
    """The embedded model has 9.7 M weights: it cannot follow the request."""
    judge = Judge("embedded:base", by=LIKELIHOOD)
    found = judge_and_count(judge, tmp_path, 40)
    (one,) = found["judge_models"]
    assert one["votes"] == 80 and one["unreadable"] == 0
    assert one["position"]["p_value"] < 0.001 and abs(one["position"]["value"] - 0.5) > 0.3
    assert one["consistent"]["value"] < 0.3 and one["consistent"]["ci95"][0] >= 0
    assert one["pairs"][0]["verdict"] == "undecided"
    assert abs(one["pairs"][0]["win_rate"]["value"] - 0.5) < 0.1
    low, _ = one["agreement_with_people"]["ci95"]
    assert low <= one["agreement_with_people"]["by_chance"]
    (pair,) = found["people"]["pairs"]
    assert (pair["model"], pair["verdict"]) == ("good", "better"), "judge votes are not people's"
    text = render_table(found)
    assert "(a model, not a person)" in text and "BIAS" in text
    assert "they say nothing of the models" in text
    assert "votes as people did no more often than by chance" in text

    with pytest.raises(InputError, match=r"(?s)none of 8 replies .*--judge-by likelihood"):
        judge_and_count(Judge("embedded:base"), tmp_path, 4)


def test_an_endpoint_needs_the_name_of_a_model() -> None:
    with pytest.raises(InputError, match="no name"):
        open_judge(Judge("http://127.0.0.1:1/v1"))
    with pytest.raises(InputError, match="gives no likelihoods"):
        open_judge(Judge("http://127.0.0.1:1/v1", "m", by=LIKELIHOOD))
