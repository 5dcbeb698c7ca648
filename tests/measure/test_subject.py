"""Bytes are those of the answers, whatever the tokenizer makes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgetune.data.build_encoder import make_encoder
from edgetune.data.encode import Encoder
from edgetune.data.rows import Message, Row
from edgetune.measure.subject import count_bytes
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import DataSection

SECTION = DataSection(train="-")


def ask(*turns: str) -> Row:
    roles = ("user", "assistant")
    return Row(tuple(Message(roles[n % 2], text) for n, text in enumerate(turns)), None, "row")


@pytest.fixture
def encoder(tiny_model: Path) -> Encoder:
    return make_encoder(load_tokenizer(tiny_model), SECTION, None)


def count(encoder: Encoder, row: Row) -> int:
    return count_bytes(encoder, row, encoder.encode(row))


@pytest.mark.parametrize("answer", ["lamp on", "Größe 42 “東京”", '{"a": [1, 2]}', "", "👍"])
def test_an_answer_has_the_bytes_of_its_text(encoder: Encoder, answer: str) -> None:
    assert count(encoder, ask("say it", answer)) == len(answer.encode())


def test_tokens_read_back_have_the_bytes_of_the_text(encoder: Encoder) -> None:
    """As counted where a template may have rewritten a turn: that of two answers is their sum."""
    row = ask("one?", "1 is one.", "two?", "2 ist größer")
    assert count(encoder, row) == len("1 is one.2 ist größer".encode())


def test_turns_that_do_not_train_are_not_counted(encoder: Encoder) -> None:
    row = ask("one?", "1 is one.", "two?", "2 is two")
    read = replace(row.messages[1], trains=False)
    row = replace(row, messages=(row.messages[0], read, *row.messages[2:]))
    assert count(encoder, row) == len("2 is two")


def test_what_is_cut_off_is_not_counted(encoder: Encoder) -> None:
    row = ask("say it", "a longer answer than there is room for")
    short = replace(encoder, max_length=len(encoder.prompt(row)) + 3)
    assert 0 < count(short, row) < 20


def test_a_plain_text_counts_what_is_predicted(encoder: Encoder) -> None:
    row = Row((), "Once upon a time", "text")
    coded = encoder.encode(row)
    first = encoder.tokenizer.decode(coded.ids[:1], skip_special_tokens=True)
    assert count_bytes(encoder, row, coded) == len("Once upon a time") - len(first)
