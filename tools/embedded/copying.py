"""Start the model with the two attention patterns that copying needs.

Copying an unseen word takes an induction circuit (Olsson et al., arXiv:2209.11895): a head that
looks one token back, and behind it one that finds where the present token stood before and reads
what came next. Found by gradient descent alone it takes far more tokens than two CPU cores can
give: after 2.3 million the answers still held random words. So the first two layers start with
it, and training does the rest.

Shape suffixes: V vocabulary, D residual width (256), H head width (32).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

#: Key-value heads used in each of the two layers; the fourth starts at random.
HEADS = 3
EMBEDDING_NORM = 0.64
_HEAD_WIDTH = 32


class Subspaces:
    """Orthonormal directions of the residual stream and what each is for."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        square = torch.randn(width, width, generator=generator, dtype=torch.float64)
        basis_DD = torch.linalg.qr(square)[0].T.float()
        size = HEADS * _HEAD_WIDTH
        self.token = basis_DD[:size].view(HEADS, _HEAD_WIDTH, width)
        self.before = basis_DD[size : 2 * size].view(HEADS, _HEAD_WIDTH, width)
        self.constant = basis_DD[2 * size]
        self.form = basis_DD[2 * size + 1 : 2 * size + 4]
        self.rest = basis_DD[2 * size + 4 :]


def seed_embeddings(
    weight_VD: torch.Tensor, tokens: list[str], spaces: Subspaces, generator: torch.Generator
) -> None:
    """Fill the embeddings: one vector a word, plus a direction for its form.

    " word", "word" and "Word" share most of their vector, so that one is found and copied as the
    other. All rows share a constant, which moves every logit alike.
    """
    room = torch.cat([spaces.token.flatten(0, 1), spaces.rest])
    drawn: dict[str, torch.Tensor] = {}
    for row, token in zip(weight_VD, tokens, strict=True):
        bare = token.removeprefix("Ġ")
        word = bare.lower() if bare.isalpha() else bare or token
        if word not in drawn:
            mix = torch.randn(len(room), generator=generator)
            drawn[word] = mix @ room / math.sqrt(len(room))
        form = 0 if token.startswith("Ġ") else 1
        row.copy_(EMBEDDING_NORM * (drawn[word] + 0.35 * spaces.form[form] + spaces.constant))
        if bare[:1].isupper():
            row.add_(0.35 * EMBEDDING_NORM * spaces.form[2])
        noise = torch.randn(row.shape, generator=generator) / math.sqrt(len(row))
        row.add_(0.15 * EMBEDDING_NORM * noise)


def _seed_previous(attention: Any, spaces: Subspaces) -> None:
    """Heads that attend one token back and write that token into the `before` directions."""
    half, pairs, scale = _HEAD_WIDTH // 2, 6, 7.7
    # What the normed stream holds of the constant: half of its squared norm.
    constant_H = spaces.constant / (math.sqrt(0.5) * math.sqrt(len(spaces.constant)))
    for head in range(HEADS):
        query, key = 2 * head * _HEAD_WIDTH, head * _HEAD_WIDTH
        attention.q_proj.weight[query : query + _HEAD_WIDTH] = 0
        attention.k_proj.weight[key : key + _HEAD_WIDTH] = 0
        for pair in range(pairs):
            # Rotary pair i turns by its frequency a token: turned back by one, the query meets
            # the key of the token before.
            turn = 10000.0 ** (-pair / half)
            attention.k_proj.weight[key + pair] = scale * constant_H
            attention.q_proj.weight[query + pair] = scale * math.cos(turn) * constant_H
            attention.q_proj.weight[query + half + pair] = -scale * math.sin(turn) * constant_H
        attention.v_proj.weight[key : key + _HEAD_WIDTH] = spaces.token[head]
        attention.o_proj.weight[:, query : query + _HEAD_WIDTH] = 0.15 * spaces.before[head].T


def _seed_induction(attention: Any, spaces: Subspaces) -> None:
    """Heads that attend to the token after an earlier equal of this one, and copy it."""
    half, scale = _HEAD_WIDTH // 2, 3.2
    # The slower rotary pairs hardly turn over a context, so contents can be compared in them.
    slow = [*range(half // 2, half), *range(half + half // 2, 2 * half)]
    for head in range(HEADS):
        query, key = 2 * head * _HEAD_WIDTH, head * _HEAD_WIDTH
        attention.q_proj.weight[query : query + _HEAD_WIDTH] = 0
        attention.k_proj.weight[key : key + _HEAD_WIDTH] = 0
        for at, dim in enumerate(slow):
            attention.q_proj.weight[query + dim] = scale * spaces.token[head, at]
            attention.k_proj.weight[key + dim] = scale * spaces.before[head, at]
        attention.v_proj.weight[key : key + _HEAD_WIDTH] = spaces.token[head]
        attention.o_proj.weight[:, query : query + _HEAD_WIDTH] = 0.8 * spaces.token[head].T


@torch.no_grad()
def seed_copying(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
    """Write the starting patterns into an untrained model's embeddings and first two layers."""
    generator = torch.Generator().manual_seed(seed)
    spaces = Subspaces(model.config.hidden_size, generator)
    tokens: Any = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    seed_embeddings(model.model.embed_tokens.weight, tokens, spaces, generator)
    _seed_previous(model.model.layers[0].self_attn, spaces)
    _seed_induction(model.model.layers[1].self_attn, spaces)
