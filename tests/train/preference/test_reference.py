"""Reference log probabilities are made once, kept, and made again where they are not whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgetune.data.preference_tokens import write_pairs
from edgetune.train.preference import reference
from edgetune.train.preference.reference import FOLDER, ReferenceKey, find_reference
from edgetune.train.preference.rows import TokenRows, pair_sequences
from edgetune.train.tuning_step import Tuning
from tests.train.preference.preferences import QUIET, Trial, write_pair_rows


@pytest.fixture
def tuning(tiny_model: Path, tmp_path: Path) -> Tuning:
    return Trial(tiny_model, write_pair_rows(tmp_path / "rows.jsonl"), "dpo").tuning(
        tmp_path / "step"
    )


@pytest.fixture
def rows(tuning: Tuning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TokenRows:
    monkeypatch.setattr(reference, "SHARD_TOKENS", 1000)  # several shards
    path = tmp_path / "pairs.arrow"
    return TokenRows(write_pairs(tuning.encoder, tuning.rows.train, path, QUIET).path)


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the model was asked again")

    monkeypatch.setattr(reference, "sum_log_probs", refuse)


def test_they_are_the_models_own(tuning: Tuning, rows: TokenRows) -> None:
    found = find_reference(tuning, rows, pair_sequences)
    assert found.shape == (len(rows), 2) and found.dtype == np.float32
    model = tuning.model.eval()
    for number in (0, 7, len(rows) - 1):
        for side, (ids, mask) in enumerate(pair_sequences(rows[number])):
            with torch.no_grad():
                log_TV = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            own = [log_TV[at - 1, ids[at]] for at in range(1, len(ids)) if mask[at]]
            assert found[number, side] == pytest.approx(float(sum(own)), rel=1e-5)


def test_another_learning_rate_finds_them(
    tuning: Tuning, rows: TokenRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = find_reference(tuning, rows, pair_sequences)
    forbid(monkeypatch)
    assert np.array_equal(find_reference(tuning, rows, pair_sequences), first)


def test_an_interrupted_pass_goes_on(
    tuning: Tuning, rows: TokenRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = find_reference(tuning, rows, pair_sequences)
    (place,) = (tuning.run.out.parent / FOLDER).iterdir()
    shards = sorted(place.glob("*.safetensors"))
    assert len(shards) > 3
    shards[0].unlink()
    torn = bytearray(shards[2].read_bytes())
    torn[-1] ^= 1
    shards[2].write_bytes(torn)
    asked: list[int] = []
    original = reference.sum_log_probs

    def count(model: Any, sequences: Any, bar: Any) -> np.ndarray:
        asked.append(len(sequences))
        return original(model, sequences, bar)

    monkeypatch.setattr(reference, "sum_log_probs", count)
    assert np.array_equal(find_reference(tuning, rows, pair_sequences), whole)
    assert len(asked) == 2


def test_another_model_or_order_has_others(tuning: Tuning, rows: TokenRows) -> None:
    key = ReferenceKey.of("model", tuning.model, rows)
    assert key.name != ReferenceKey.of("another", tuning.model, rows).name
    turned = TokenRows(rows.file, rows.order[::-1].copy())
    assert key.name != ReferenceKey.of("model", tuning.model, turned).name
    assert key.name == ReferenceKey.of("model", tuning.model, TokenRows(rows.file)).name
