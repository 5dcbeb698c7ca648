"""How the base model was trained: what counts in the loss, how it grew, how it starts copying."""

import numpy as np
import torch
from transformers import AutoTokenizer

from edgetune.embedded import locate
from tools.embedded import architecture, copying, pretrain


def test_answers_run_from_the_newline_to_their_end():
    start, end, assistant, newline = 1, 2, 9, 5
    tokens = np.array([0, start, 8, newline, 30, end, newline, start, assistant, newline])
    tokens = np.concatenate([tokens, [31, 32, end, newline, 0, 33]])
    marks = pretrain.mark_answers(tokens, assistant)
    assert [int(token) for token, mark in zip(tokens, marks, strict=True) if mark] == [31, 32, end]


def test_a_grown_model_computes_what_the_shallow_one_did():
    shallow = architecture.build_model(4)
    grown = architecture.grow_model(shallow)
    ids = torch.randint(0, 4096, (2, 24), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(grown(input_ids=ids).logits, shallow(input_ids=ids).logits)
    assert len(grown.model.layers) == architecture.LAYERS
    assert grown.lm_head.weight is grown.model.embed_tokens.weight


def test_the_rate_warms_up_and_falls():
    assert pretrain.schedule_rate(0, 0.0, 1.0) == 0.01
    assert pretrain.schedule_rate(99, 0.0, 1.0) == 1.0
    assert abs(pretrain.schedule_rate(500, 1.0, 1.0) - 0.02) < 1e-9


def test_the_seeded_start_looks_one_token_back_and_copies():
    tokenizer = AutoTokenizer.from_pretrained(locate("base"))
    model = architecture.build_model(2)
    model.config._attn_implementation = "eager"
    copying.seed_copying(model, tokenizer, seed=1)
    words = " kitchen lamp window marta garden soft radio paris carpet bread copper ladder"
    ids = tokenizer(words + words, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        out = model(input_ids=ids, output_attentions=True)
    previous = torch.diagonal(out.attentions[0][0, 0], offset=-1)
    assert previous[2:].mean() > 0.9
    half = ids.shape[1] // 2
    losses = torch.nn.functional.cross_entropy(out.logits[0, :-1], ids[0, 1:], reduction="none")
    assert losses[half:].mean() < losses[: half - 1].mean() - 1.0
