"""Pairs and thumbs to tokens: the prompt is generation's, and only the answers asked for train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from edgetune.data.build_encoder import make_encoder
from edgetune.data.encode import Encoder
from edgetune.data.preference_tokens import write_pairs, write_thumbs
from edgetune.data.rows import Message, Row
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import DataSection

QUIET = Log(quiet=True)


@pytest.fixture
def encoder(tiny_model: Path) -> Encoder:
    return make_encoder(load_tokenizer(tiny_model), DataSection(train="x", max_length=200), None)


def turns(*texts: str) -> tuple[Message, ...]:
    return tuple(Message(("user", "assistant")[n % 2], text) for n, text in enumerate(texts))


def pair(number: int, chosen: str, rejected: str, before: tuple[str, ...] = ()) -> Row:
    messages = turns(*before, f"light {number}?", chosen)
    return Row(messages, None, f"f:{number}", rejected=(Message("assistant", rejected),))


def thumb(number: int, label: bool) -> Row:
    return Row(turns(f"light {number}?", f"on {number}"), None, f"f:{number}", label=label)


def read(path: Path) -> list[dict[str, Any]]:
    return list(Dataset.from_file(str(path)))


def test_both_answers_follow_the_prompt_of_generation(encoder: Encoder, tmp_path: Path) -> None:
    rows = [pair(1, "turn it on", "no"), pair(2, "off", "what light", ("hello", "good day"))]
    tokens = write_pairs(encoder, rows, tmp_path / "pairs", QUIET)
    for row, found in zip(rows, read(tokens.path), strict=True):
        assert found["prompt_ids"] == encoder.prompt(row)
        for side, text in (("chosen", row.answer), ("rejected", row.rejected[0].content)):
            assert encoder.decode_answer(found[f"{side}_ids"]) == text
            assert found[f"{side}_ids"][-1] == encoder.end_id
            assert all(found[f"{side}_mask"])  # the earlier answer is in the prompt: only read
    assert tokens.facts["rows"] == len(tokens) == 2
    longest = [len(one["prompt_ids"]) + max(len(one["chosen_ids"]), len(one["rejected_ids"]))
               for one in read(tokens.path)]  # fmt: skip
    assert tokens.lengths.tolist() == longest


def test_trained_tokens_are_counted_beyond_a_byte(encoder: Encoder, tmp_path: Path) -> None:
    long = replace(encoder, max_length=2000)
    tokens = write_pairs(long, [pair(1, "on " * 300, "off")], tmp_path / "pairs", QUIET)
    (found,) = read(tokens.path)
    assert len(found["chosen_ids"]) > 255
    assert tokens.facts["trained_tokens"] == len(found["chosen_ids"]) + len(found["rejected_ids"])


def test_turns_of_others_inside_an_answer_do_not_train(encoder: Encoder, tmp_path: Path) -> None:
    asked = turns("light?")
    sides = [(*turns("?", text, "and then?", f"{text} again")[1:],) for text in ("on", "off")]
    row = Row((*asked, *sides[0]), None, "f:1", rejected=sides[1])
    (found,) = read(write_pairs(encoder, [row], tmp_path / "pairs", QUIET).path)
    ids = [
        one for one, marked in zip(found["chosen_ids"], found["chosen_mask"], strict=True) if marked
    ]
    text = encoder.tokenizer.decode(ids)
    assert "and then" not in text and "on" in text and "on again" in text
    assert found["prompt_ids"] == encoder.prompt(Row((*asked, sides[0][0]), None, "f:1"))


def test_a_pair_of_equal_tokens_is_left_out_and_counted(encoder: Encoder, tmp_path: Path) -> None:
    rows = [pair(1, "on", "off"), pair(2, "on", "on")]
    tokens = write_pairs(encoder, rows, tmp_path / "pairs", QUIET)
    assert (tokens.facts["rows"], tokens.facts["equal"]) == (1, 1)
    assert [one["row"] for one in read(tokens.path)] == [0]
    with pytest.raises(InputError, match=r"no usable train row \(1 left out\)"):
        write_pairs(encoder, rows[1:], tmp_path / "pairs", QUIET)


def test_a_prompt_that_leaves_no_room_is_refused_or_left_out(
    encoder: Encoder, tmp_path: Path
) -> None:
    rows = [pair(1, "on", "off"), pair(2, "on", "off", ("hello " * 200, "good day"))]
    with pytest.raises(InputError, match="1 of 2 train rows would train on no token") as caught:
        write_pairs(encoder, rows, tmp_path / "pairs", QUIET)
    assert caught.value.where == "f:2"
    tokens = write_pairs(encoder, rows, tmp_path / "pairs", QUIET, on_bad_row="skip")
    assert (tokens.facts["rows"], tokens.facts["dropped"]) == (1, 1)


def test_an_answer_that_is_cut_off_is_counted(encoder: Encoder, tmp_path: Path) -> None:
    short = replace(encoder, max_length=40)
    tokens = write_pairs(short, [pair(1, "on " * 60, "off")], tmp_path / "pairs", QUIET)
    (found,) = read(tokens.path)
    assert tokens.facts["truncated"] == 1
    assert len(found["prompt_ids"]) + len(found["chosen_ids"]) == 40
    assert found["chosen_ids"][-1] != encoder.end_id == found["rejected_ids"][-1]


def test_thumbs_keep_their_label(encoder: Encoder, tmp_path: Path) -> None:
    rows = [thumb(n, n % 3 > 0) for n in range(6)]
    tokens = write_thumbs(encoder, rows, tmp_path / "thumbs", QUIET)
    assert [one["label"] for one in read(tokens.path)] == [row.label for row in rows]
    assert tokens.facts["liked"] == 4
    assert all(one["prompt_ids"] == encoder.prompt(row)
               for one, row in zip(read(tokens.path), rows, strict=True))  # fmt: skip


@pytest.mark.parametrize(("label", "said"), [(True, "liked"), (False, "disliked")])
def test_thumbs_of_one_kind_are_refused(
    label: bool, said: str, encoder: Encoder, tmp_path: Path
) -> None:
    rows = [thumb(n, label) for n in range(3)]
    with pytest.raises(InputError, match=f"all 3 train answers are {said}"):
        write_thumbs(encoder, rows, tmp_path / "thumbs", QUIET)
    assert len(write_thumbs(encoder, rows, tmp_path / "thumbs", QUIET, "validation")) == 3
