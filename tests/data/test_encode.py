"""Prompts are what generation sees, answers what is trained, on every tokenizer at hand."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edgetune.data.build_encoder import make_encoder
from edgetune.data.contract import load_encoder, read_contract, write_contract
from edgetune.data.encode import Encoder
from edgetune.data.encode_rows import encode_rows, usable_rows
from edgetune.data.rows import Message, Row
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import DataSection
from tests.conftest import CHATML

QUIET = Log(quiet=True)
SECTION = DataSection(train="-")
ASK = Row(
    (Message("user", "Play “Für Elise” in the kitchen"), Message("assistant", '{"call": "play"}')),
    None,
    "ask",
)
TALK = Row(
    (
        Message("system", "Be brief."),
        Message("user", "one?"),
        Message("assistant", "1 is one."),
        Message("user", "two?"),
        Message("assistant", "2 is two."),
    ),
    None,
    "talk",
)
TEXT = Row((), "Once upon a time", "text")


@pytest.fixture
def encoder(tiny_model: Path) -> Encoder:
    return make_encoder(load_tokenizer(tiny_model), SECTION, None)


def trained_text(encoder: Encoder, row: Row) -> str:
    coded = encoder.encode(row)
    ids = [id for id, trained in zip(coded.ids, coded.trained, strict=True) if trained]
    return str(encoder.tokenizer.decode(ids))


def check_properties(encoder: Encoder) -> None:
    for row in (ASK, TALK):
        coded, prompt = encoder.encode(row), encoder.prompt(row)
        assert list(coded.ids[: len(prompt)]) == prompt
        assert coded.ids[len(prompt) :][-1] == encoder.end_id
        assert encoder.decode_answer(coded.ids[len(prompt) :]) == row.answer
        text = encoder.tokenizer(encoder.prompt_text(row), add_special_tokens=False).input_ids
        assert list(text) == prompt
    end = encoder.tokenizer.convert_ids_to_tokens(encoder.end_id)
    told = trained_text(encoder, TALK).replace(" ", "")
    assert told.replace("\n", "") == f"1isone.{end}2istwo.{end}"
    assert trained_text(encoder, TEXT).endswith(end)


def test_chatml(encoder: Encoder) -> None:
    check_properties(encoder)
    assert encoder.tokenizer.decode(encoder.encode(ASK).ids) == (
        "<|im_start|>user\nPlay “Für Elise” in the kitchen<|im_end|>\n<|im_start|>assistant\n"
        '{"call": "play"}<|im_end|>'
    )
    assert trained_text(encoder, TALK) == "1 is one.<|im_end|>2 is two.<|im_end|>"
    assert encoder.tokenizer.convert_ids_to_tokens(encoder.end_id) == "<|im_end|>"


TOKENIZERS = [
    "models/stories260K",
    "models/babyllama-tok105",
    "tokenizers/gpt2",
    "tokenizers/phi-3-mini",
    "tokenizers/minimind-6400",
    "tokenizers/qwen2.5",
]


@pytest.mark.assets
@pytest.mark.parametrize("name", TOKENIZERS)
def test_real_tokenizers(assets: Path, tmp_path: Path, name: str) -> None:
    folder = assets / name
    if not (folder / "tokenizer.json").exists() and (folder / "tokenizer.json.gz").exists():
        packed = (folder / "tokenizer.json.gz").read_bytes()
        (tmp_path / "tokenizer.json").write_bytes(gzip.decompress(packed))
        config = (folder / "tokenizer_config.json").read_bytes()
        (tmp_path / "tokenizer_config.json").write_bytes(config)
        folder = tmp_path
    encoder = make_encoder(load_tokenizer(folder), SECTION, None)
    if "babyllama" in name:  # its 105 pieces hold no ü and no braces
        row = Row((Message("user", "hi there"), Message("assistant", "good day")), None, "plain")
        coded = encoder.encode(row)
        assert encoder.decode_answer(coded.ids[len(encoder.prompt(row)) :]) == "good day"
    else:
        check_properties(encoder)
    beginning = encoder.tokenizer.bos_token_id
    if name.startswith("models/"):  # these begin every text with <s>: once, never twice
        assert (
            encoder.encode(ASK).ids.count(beginning) == 1 == encoder.prompt(TEXT).count(beginning)
        )
        assert encoder.stop_ids == (2, 1)
    write_contract(encoder, [ASK, TALK], tmp_path / "contract")
    loaded = load_encoder(tmp_path / "contract", 64)
    assert loaded.encode(TALK) == encoder.encode(TALK)
    assert loaded.stop_ids == encoder.stop_ids


def test_plain_template_travels(tiny_model: Path, tmp_path: Path) -> None:
    section = DataSection(train="-", template="plain")
    encoder = make_encoder(load_tokenizer(tiny_model), section, "<|endoftext|>")
    check_properties(encoder)
    assert encoder.prompt_text(ASK) == "Play “Für Elise” in the kitchen\n"
    assert trained_text(encoder, TALK) == "1 is one.<|endoftext|>2 is two.<|endoftext|>"
    write_contract(encoder, [ASK], tmp_path)
    assert load_encoder(tmp_path, 99).prompt_text(TALK) == encoder.prompt_text(TALK)


def test_system_message_of_the_recipe(tiny_model: Path) -> None:
    section = DataSection(train="-", system="You are a lamp.")
    encoder = make_encoder(load_tokenizer(tiny_model), section, None)
    assert "system\nYou are a lamp.<|im_end|>" in encoder.prompt_text(ASK)
    assert "lamp" not in encoder.prompt_text(TALK)


def test_rewritten_history_is_not_trained(encoder: Encoder) -> None:
    encoder.tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{{ m['content'] | replace('1 is one.', 'forgotten') }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    assert trained_text(encoder, TALK) == "2 is two.<|im_end|>"


def test_truncation(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    whole = make_encoder(tokenizer, SECTION, None)
    prompt, full = whole.prompt(ASK), whole.encode(ASK).ids
    short = make_encoder(tokenizer, DataSection(train="-", max_length=len(full) - 1), None)
    coded = short.encode(ASK)
    assert coded.ids == full[:-1] and coded.truncated and coded.trained[-1]
    quick = Row((Message("user", "q"), Message("assistant", "a")), None, "quick")
    with pytest.raises(InputError, match=r"cuts off the answer of every train row") as raised:
        encode_rows(short, [ASK], QUIET)
    assert f"needs {len(full)} tokens" in raised.value.hint
    assert encode_rows(short, [ASK, quick], QUIET).facts["truncated"] == 1
    none = make_encoder(tokenizer, DataSection(train="-", max_length=len(prompt)), None)
    with pytest.raises(InputError, match="1 of 2 train rows would train on no token"):
        encode_rows(none, [quick, ASK], QUIET)
    kept = encode_rows(none, [quick, ASK], QUIET, on_bad_row="skip")
    assert (kept.rows, kept.facts["dropped"]) == ([quick], 1)


@pytest.mark.assets
def test_unknown_characters_are_counted(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = make_encoder(load_tokenizer(assets / "models/babyllama-tok105"), SECTION, None)
    rows = [Row((Message("user", "q"), Message("assistant", a)), None, a) for a in ("ok", "日本")]
    facts = encode_rows(encoder, rows, Log()).facts
    assert facts["unknown_answers"] == 1
    assert facts["unknown_tokens"] == 3  # the newline of both prompts, and 日本 in one piece
    assert "1 of 2 answers hold characters" in capsys.readouterr().err


def test_end_token_is_checked(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    with pytest.raises(InputError, match=r"did you mean '<\|im_end\|>'"):
        make_encoder(tokenizer, SECTION, "<|im_ende|>")
    tokenizer.chat_template = None
    with pytest.raises(InputError, match="no chat template"):
        make_encoder(tokenizer, DataSection(train="-", template="chat"), None)


def test_template_that_refuses(encoder: Encoder) -> None:
    encoder.tokenizer.chat_template = "{{ raise_exception('only users speak') }}"
    with pytest.raises(InputError, match="only users speak") as raised:
        encoder.prompt(ASK)
    assert raised.value.where == "ask"


def test_contract_holds_and_tells(encoder: Encoder, tmp_path: Path) -> None:
    contract = write_contract(encoder, [ASK, TALK, TEXT], tmp_path)
    assert contract == read_contract(tmp_path)
    assert len(contract["golden"]) == 5  # two rows and three probes
    assert contract["golden"][0]["ids"] == encoder.prompt(ASK)
    saved: dict[str, Any] = json.loads((tmp_path / "contract.json").read_text())
    saved["golden"][1]["ids"][3] += 1
    (tmp_path / "contract.json").write_text(json.dumps(saved))
    with pytest.raises(InputError, match="gives other ids"):
        load_encoder(tmp_path, 64)
    (tmp_path / "contract.json").unlink()
    with pytest.raises(InputError, match="no readable template contract"):
        load_encoder(tmp_path, 64)


@pytest.mark.parametrize("length", [7, 30, 1000])
def test_long_texts_train_whole_in_pieces(encoder: Encoder, length: int) -> None:
    short = replace(encoder, max_length=length)
    rows = [Row((), "word " * count, f"text {count}") for count in (1, 40, 300)]
    whole = [replace(encoder, max_length=10**6).encode(row).ids for row in rows]
    prepared = encode_rows(short, rows, QUIET)
    assert max(len(one.ids) for one in prepared.encoded) <= length
    assert prepared.facts["trained_tokens"] == sum(len(ids) - 1 for ids in whole)
    assert prepared.facts["truncated"] == 0
    for row, ids in zip(rows, whole, strict=True):
        pieces = [e for r, e in zip(prepared.rows, prepared.encoded, strict=True) if r is row]
        said = [id for e in pieces for id, t in zip(e.ids, e.trained, strict=True) if t]
        assert [ids[0], *said] == list(ids)
        assert all(b.ids[0] == a.ids[-1] for a, b in pairwise(pieces))
    cut = [-(-(len(ids) - 1) // (length - 1)) for ids in whole if len(ids) > length]
    assert prepared.facts["cut_texts"] == {"texts": len(cut), "pieces": sum(cut)}


def test_rows_that_the_template_refuses_are_skipped(encoder: Encoder) -> None:
    encoder.tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        + CHATML
    )
    with pytest.raises(InputError, match="no system") as raised:
        encode_rows(encoder, [ASK, TALK], QUIET)
    assert raised.value.where == "talk" and "on_bad_row" in raised.value.hint
    kept = encode_rows(encoder, [ASK, TALK, TALK], QUIET, on_bad_row="skip")
    assert kept.rows == [ASK] and list(kept.facts["refused"].values()) == [2]
    assert usable_rows(encoder, [TALK, ASK], QUIET, "test", "skip") == [ASK]
    with pytest.raises(InputError, match="no usable train row"):
        encode_rows(encoder, [TALK], QUIET, on_bad_row="skip")


def test_tokens_beyond_the_embedding(encoder: Encoder, tmp_path: Path) -> None:
    last = Row((Message("user", "q"), Message("assistant", "<new>")), None, "new")
    encoder.tokenizer.add_tokens(["<new>"])
    encoder = replace(encoder, embedding_rows=len(encoder.tokenizer) - 1)
    with pytest.raises(InputError, match=r"'<new>' has the id 306, .* 306 rows") as raised:
        encode_rows(encoder, [ASK, last], QUIET)
    assert raised.value.where == "new"
    assert encode_rows(encoder, [ASK, last], QUIET, on_bad_row="skip").rows == [ASK]
    write_contract(encoder, [ASK], tmp_path)
    assert load_encoder(tmp_path, 64).embedding_rows == encoder.embedding_rows


def test_the_embedding_is_that_of_the_model(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    assert make_encoder(tokenizer, SECTION, None).embedding_rows == len(tokenizer)
