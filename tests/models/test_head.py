"""Logits at chosen positions only are the logits of the whole batch at those positions."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from edgetune.models.head import head_only_at

SMALL = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
FAMILIES = {  # the last three do something to the logits after the head
    "llama": SMALL,
    "gpt2": {"vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 2},
    "gemma2": {**SMALL, "num_key_value_heads": 1, "head_dim": 16, "final_logit_softcapping": 2.0},
    "granite": {**SMALL, "logits_scaling": 3.0},
    "cohere": {**SMALL, "logit_scale": 0.3},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_to_the_whole(family: str) -> None:
    torch.manual_seed(0)
    token = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(family, **FAMILIES[family], **token)
    model = AutoModelForCausalLM.from_config(config).eval()
    ids_BT, chosen_BT = torch.randint(0, 50, (3, 7)), torch.rand(3, 7) < 0.4
    whole_BTV = model(input_ids=ids_BT).logits
    with head_only_at(model, chosen_BT):
        logits_PV = model(input_ids=ids_BT).logits
    torch.testing.assert_close(logits_PV, whole_BTV[chosen_BT])
    assert model(input_ids=ids_BT).logits.shape == whole_BTV.shape
