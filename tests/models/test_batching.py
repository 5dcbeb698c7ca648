"""Padding behind the tokens needs no mask; any other does."""

from __future__ import annotations

from pathlib import Path

import torch

from edgetune.models.batching import unmasked
from edgetune.models.load import load_base

IDS_BT = torch.tensor([[5, 9, 17, 33, 8], [11, 12, 13, 0, 0]])
MASK_BT = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def test_logits_of_tokens_do_not_need_the_mask_of_padding_behind(tiny_model: Path) -> None:
    model = load_base(tiny_model, False, "float32", "cpu")
    inputs = {"input_ids": IDS_BT, "attention_mask": MASK_BT}
    assert unmasked(inputs).keys() == {"input_ids"}
    with torch.no_grad():
        found, expected = model(**unmasked(inputs)).logits, model(**inputs).logits
    kept = MASK_BT.bool()
    torch.testing.assert_close(found[kept], expected[kept], rtol=1e-4, atol=1e-5)


def test_padding_before_tokens_and_masks_of_pairs_are_kept() -> None:
    for mask in (MASK_BT.flip(1), torch.ones(2, 1, 5, 5)):
        inputs = {"input_ids": IDS_BT, "attention_mask": mask}
        assert unmasked(inputs) == inputs
    assert unmasked({"input_ids": IDS_BT}).keys() == {"input_ids"}
