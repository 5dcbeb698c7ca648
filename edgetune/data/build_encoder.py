"""Build a recipe's encoder: chat template, end token, stop ids, clock and embedding size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from edgetune.data.chat_format import clock_now, set_plain_template, template_end_token
from edgetune.data.encode import Encoder
from edgetune.errors import InputError, nearest
from edgetune.models.vocabulary import embedding_rows
from edgetune.recipe import DataSection


def make_encoder(
    tokenizer: PreTrainedTokenizerBase,
    section: DataSection,
    end_token: str | None,
    clock: str | None = None,
) -> Encoder:
    """Return the encoder of a recipe. A tokenizer without a chat template is given a plain one.

    Args:
        tokenizer: as loaded from the model's folder.
        section: says the template, the system message and the longest row.
        end_token: ends every answer; ``None`` takes the template's, or else the tokenizer's EOS.
        clock: the time that the template prints, if it prints one; ``None`` is now.

    Raises:
        InputError: no such end token, or ``template: chat`` without a chat template.
    """
    if section.template == "chat" and not tokenizer.chat_template:
        raise InputError(
            "the tokenizer has no chat template",
            where="data.template",
            hint="data.template: plain",
        )
    plain = section.template == "plain" or not tokenizer.chat_template
    name = end_token or (None if plain else template_end_token(tokenizer)) or tokenizer.eos_token
    if name is None:
        raise InputError(
            "the tokenizer names no end-of-sequence token",
            where="tune.end_token",
            hint="name the token that ends an answer",
        )
    vocabulary = tokenizer.get_vocab()
    if name not in vocabulary:
        raise InputError(
            f"'{name}' is not a token of this tokenizer{nearest(name, vocabulary)}",
            where="tune.end_token",
            hint=f"its special tokens: {', '.join(tokenizer.all_special_tokens)}",
        )
    if plain:
        set_plain_template(tokenizer, name)
    end_id = int(vocabulary[name])
    stop_ids = tuple(dict.fromkeys([end_id, *_eos_ids(tokenizer)]))
    clock = clock or clock_now()
    rows = embedding_rows(Path(tokenizer.name_or_path))
    return Encoder(tokenizer, end_id, section.max_length, section.system, stop_ids, clock, rows)


def _eos_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The EOS ids of the tokenizer and of its folder's generation_config.json."""
    found: list[Any] = [tokenizer.eos_token_id]
    config = Path(tokenizer.name_or_path) / "generation_config.json"
    if config.is_file():
        try:
            named = json.loads(config.read_text(encoding="utf-8")).get("eos_token_id")
        except (ValueError, AttributeError) as error:
            raise InputError(f"not a JSON object: {error}", where=str(config)) from error
        found += named if isinstance(named, list) else [named]
    return [int(id) for id in found if id is not None]
