"""Examples for a prompt are answered train rows, and never the row itself or a leak of it."""

from __future__ import annotations

from edgetune.data.examples import Examples
from edgetune.data.rows import Message, Row

ASK = [
    "turn on the light in the kitchen",
    "turn on the light in the cellar",
    "what is the weather like in Lisbon",
    "what will the weather be like in Porto",
    "play some music from the eighties",
]


def make_row(prompt: str, answer: str = "done", tools: str = "") -> Row:
    turns = (Message("user", prompt), Message("assistant", answer))
    return Row(turns, None, f"rows:{prompt}", tools)


TRAIN = [make_row(one) for one in ASK]


def asked(rows: list[Row]) -> list[str]:
    return [row.prompt[-1].content for row in rows]


def test_the_seed_chooses_the_same_rows_for_every_question() -> None:
    examples = Examples(TRAIN, similar=False, threshold=0.8, seed=3)
    first = asked(examples.choose(make_row("open the garage door"), 3))
    assert len(first) == 3
    assert asked(examples.choose(make_row("how tall is the tower"), 3)) == first
    again = Examples(TRAIN, similar=False, threshold=0.8, seed=3)
    assert asked(again.choose(make_row("x"), 3)) == first
    others = [Examples(TRAIN, False, 0.8, seed).choose(make_row("x"), 3) for seed in range(9)]
    assert any(asked(one) != first for one in others)


def test_the_most_similar_prompt_is_next_to_the_question() -> None:
    examples = Examples(TRAIN, similar=True, threshold=0.9, seed=0)
    found = asked(examples.choose(make_row("how is the weather in Lisbon"), 2))
    assert found == [ASK[3], ASK[2]]


def test_a_question_that_train_has_is_no_example_of_itself() -> None:
    for similar in (False, True):
        examples = Examples(TRAIN, similar, threshold=1.0, seed=0)
        for row in TRAIN:
            found = asked(examples.choose(row, len(ASK)))
            assert sorted(found) == sorted(set(ASK) - {row.prompt[-1].content})


def test_a_similar_prompt_is_a_leak_and_no_example() -> None:
    row = make_row("Turn on the light in the  kitchen!")
    assert ASK[0] not in asked(Examples(TRAIN, True, 0.8, 0).choose(row, len(ASK)))
    assert ASK[0] in asked(Examples(TRAIN, True, 1.0, 0).choose(row, len(ASK)))


def test_rows_without_an_answer_or_of_other_tools_are_no_examples() -> None:
    rows = [
        Row((), "a plain text", "t"),
        Row((Message("user", "a question alone"),), None, "q"),
        make_row("call me a taxi", tools='[{"name": "taxi"}]'),
    ]
    examples = Examples(rows, True, 0.8, 0)
    assert examples.choose(make_row("call me a cab"), 4) == []
    assert len(examples.choose(make_row("call me a cab", tools=rows[2].tools), 4)) == 1
    assert Examples([], True, 0.8, 0).choose(make_row("anything"), 4) == []
