"""Perplexity on general text is the model's own, and the change is one of pairs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from edgetune.data.build_encoder import make_encoder
from edgetune.data.encode import Encoder
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.load import load_base
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import DataSection, TuneSection
from edgetune.train.forgetting import compare_general, read_general, score_texts, watch_general

QUIET = Log(quiet=True)
DATA = DataSection(train="unread.jsonl", max_length=128)


@pytest.fixture
def encoder(tiny_model: Path) -> Encoder:
    return make_encoder(load_tokenizer(tiny_model), DATA, None, "2026-01-01T00:00:00")


def test_losses_are_the_models_own(tiny_model: Path, encoder: Encoder) -> None:
    rows = read_general("embedded", encoder, DATA, QUIET)[:3]
    model = load_base(tiny_model, False, "float32", "cpu").train()
    sums = score_texts(model, rows)
    assert model.training
    for row, found in zip(rows, sums, strict=True):
        ids = torch.tensor([list(row.ids)])
        wanted = float(model.eval()(input_ids=ids, labels=ids).loss) * (len(row.ids) - 1)
        assert found == pytest.approx(wanted, rel=1e-4)


def test_embedded_text_is_of_many_paragraphs(encoder: Encoder) -> None:
    rows = read_general("embedded", encoder, DATA, QUIET)
    assert len(rows) == 32 and all(any(row.trained) for row in rows)


def test_rows_of_a_file_are_read_and_counted(tmp_path: Path, encoder: Encoder) -> None:
    path = tmp_path / "general.jsonl"
    path.write_text("".join(f'{{"text": "turn the light to {n}"}}\n' for n in range(300)))
    assert len(read_general(str(path), encoder, DATA, QUIET)) == 128
    path.write_text("")
    with pytest.raises(InputError):
        read_general(str(path), encoder, DATA, QUIET)


def test_change_and_interval_are_of_the_same_texts(encoder: Encoder) -> None:
    rows = read_general("embedded", encoder, DATA, QUIET)[:4]
    counts = [sum(row.trained[1:]) for row in rows]
    before = [3.0 * count for count in counts]
    found = compare_general("embedded", rows, before, [3.5 * count for count in counts])
    assert found.loss_change == pytest.approx(0.5) and found.tokens == sum(counts)
    assert found.ci95 == pytest.approx((0.5, 0.5))  # no text changed otherwise than another
    assert found.perplexity_before == pytest.approx(math.exp(3.0))
    assert found.perplexity_after == pytest.approx(math.exp(3.5))


def test_nothing_is_read_where_it_is_off(encoder: Encoder) -> None:
    assert watch_general(TuneSection(general="off"), None, encoder, DATA, QUIET) is None
