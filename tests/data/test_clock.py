"""A date that a template prints is the date of tuning, whenever and wherever it is rendered."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from edgetune.data.build_encoder import make_encoder
from edgetune.data.contract import (
    encoder_of,
    freeze_clock,
    load_encoder,
    read_contract,
    tell_clock,
    write_contract,
)
from edgetune.data.encode import Encoder
from edgetune.data.rows import Message, Row
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import DataSection

SECTION = DataSection(train="-")
ASK = Row((Message("user", "one?"), Message("assistant", "1")), None, "ask")
TALK = Row((*ASK.messages, Message("user", "two?"), Message("assistant", "2")), None, "talk")
# As Llama 3.2 writes it: the date of the client, or one that is given.
DATED = (
    "{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y %H:%M') %}"
    "{%- endif %}Today: {{ date_string }}\n{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THEN = "2024-02-29T23:59:58"


@pytest.fixture
def dated(tiny_model: Path) -> Encoder:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = DATED
    return make_encoder(tokenizer, SECTION, "<|im_end|>", THEN)


def test_contract_keeps_the_date(
    dated: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dated.prompt_text(ASK).startswith("Today: 29 Feb 2024 23:59\n")
    contract = write_contract(dated, [ASK, TALK], tmp_path)
    assert contract["clock"] == THEN == read_contract(tmp_path)["clock"]
    for zone in ("Pacific/Kiritimati", "Etc/GMT+12"):
        monkeypatch.setenv("TZ", zone)
        loaded = encoder_of(tmp_path, SECTION)
        assert loaded.prompt_text(TALK) == dated.prompt_text(TALK)
        assert loaded.encode(TALK) == dated.encode(TALK)
        assert loaded.template_hash == dated.template_hash
    assert sum(dated.encode(TALK).trained) == 4  # both answers with their end tokens


def test_contract_of_another_date_is_refused(dated: Encoder, tmp_path: Path) -> None:
    write_contract(dated, [ASK], tmp_path)
    contract = json.loads((tmp_path / "contract.json").read_text())
    contract["clock"] = "2025-01-01T00:00:00"
    (tmp_path / "contract.json").write_text(json.dumps(contract))
    with pytest.raises(InputError, match="renders another text"):
        load_encoder(tmp_path, 64)


def test_a_foreign_model_prints_now(dated: Encoder, tmp_path: Path) -> None:
    dated.tokenizer.save_pretrained(tmp_path)
    before = datetime.now().replace(second=0, microsecond=0)
    printed = encoder_of(tmp_path, SECTION).prompt_text(ASK).splitlines()[0]
    assert before <= datetime.strptime(printed, "Today: %d %b %Y %H:%M") <= datetime.now()
    assert "Today: 29 Feb 2024" in encoder_of(tmp_path, SECTION, THEN).prompt_text(ASK)


def test_a_stage_that_goes_on_keeps_its_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = freeze_clock(tmp_path)
    monkeypatch.setattr("edgetune.data.contract.clock_now", lambda: THEN)
    assert freeze_clock(tmp_path) == first != THEN
    assert freeze_clock(tmp_path / "new") == THEN


def test_the_date_is_told_where_one_is_printed(
    dated: Encoder, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tell_clock(dated, Log()) == THEN
    assert "prints the date: 2024-02-29" in capsys.readouterr().err
    plain = make_encoder(load_tokenizer(tiny_model), SECTION, None)
    assert tell_clock(plain, Log()) is None
    assert capsys.readouterr().err == ""
    assert plain.template_hash == replace(plain, clock=THEN).template_hash
