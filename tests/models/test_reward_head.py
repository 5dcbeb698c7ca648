"""A reward model: saved with its adapter, loaded as it was, and read by transformers and PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgetune.errors import InputError
from edgetune.models.adapters import add_adapter, save_adapter
from edgetune.models.load import load_base, load_model
from edgetune.models.lora import Adapter
from edgetune.models.ref import ModelRef
from edgetune.models.reward_head import add_reward_head, load_reward, score_sequences
from edgetune.models.tokenizer_files import load_tokenizer, save_tokenizer
from edgetune.recipe import TuneSection

SEQUENCES = [[5, 6, 7, 8, 9], [40, 41], [5, 6, 7, 8]]


def make_reward(tiny_model: Path, nf4: bool = False) -> Any:
    model = add_adapter(load_base(tiny_model, nf4, "float32", "cpu"), TuneSection(rank=4), seed=0)
    add_reward_head(model, 0)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and ("lora_B" in name or "score" in name):
            parameter.data.normal_(std=0.1)
    return model


@pytest.mark.parametrize("nf4", [False, True])
def test_saved_and_loaded_scores_the_same(nf4: bool, tiny_model: Path, tmp_path: Path) -> None:
    model = make_reward(tiny_model, nf4)
    scores = score_sequences(model, SEQUENCES)
    assert len(set(scores.tolist())) == 3
    save_adapter(model, tmp_path)
    again = load_reward(ModelRef(tiny_model, tmp_path, nf4))
    np.testing.assert_allclose(score_sequences(again, SEQUENCES), scores, atol=1e-5)


def test_peft_and_transformers_read_it(tiny_model: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    model = make_reward(tiny_model)
    save_adapter(model, tmp_path)
    base = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1)
    other = PeftModel.from_pretrained(base, str(tmp_path)).eval()
    for ids, score in zip(SEQUENCES, score_sequences(model, SEQUENCES), strict=True):
        with torch.no_grad():
            assert float(other(input_ids=torch.tensor([ids])).logits) == pytest.approx(
                score, abs=1e-5
            )


def test_a_whole_model_keeps_its_head_beside_its_weights(tiny_model: Path, tmp_path: Path) -> None:
    model = load_base(tiny_model, False, "float32", "cpu")
    add_reward_head(model, 3)
    model.save_pretrained(tmp_path)
    save_tokenizer(load_tokenizer(tiny_model), tmp_path)
    again = load_reward(ModelRef(tmp_path))
    found = score_sequences(again, SEQUENCES)
    np.testing.assert_allclose(found, score_sequences(model, SEQUENCES), atol=1e-6)


def test_no_stage_takes_it_for_a_language_model(tiny_model: Path, tmp_path: Path) -> None:
    save_adapter(make_reward(tiny_model), tmp_path)
    with pytest.raises(InputError, match="a model that scores texts"):
        load_model(ModelRef(tiny_model, tmp_path))
    with pytest.raises(InputError, match="a model that scores texts"):
        Adapter(tmp_path, tiny_model)


def test_padding_changes_no_score(tiny_model: Path) -> None:
    model = make_reward(tiny_model).eval()
    together = score_sequences(model, SEQUENCES)
    alone = [float(score_sequences(model, [ids])[0]) for ids in SEQUENCES]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_model_without_a_head_is_refused(tiny_model: Path) -> None:
    with pytest.raises(InputError, match="scores no answers"):
        load_reward(ModelRef(tiny_model))
