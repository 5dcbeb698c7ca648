"""Rows to token ids: rendered, tokenized as generation will see them, and marked for training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from edgetune.data.rows import Message, Row
from edgetune.data.template import (
    adds_begin_token,
    render,
    set_plain_template,
    template_end_token,
)
from edgetune.errors import InputError, nearest
from edgetune.recipe import DataSection


@dataclass(frozen=True)
class Encoded:
    """One row as tokens.

    Attributes:
        ids: token ids, at most ``max_length``.
        trained: for each id, whether the model is trained to predict it.
        truncated: whether the end was cut off to fit.
    """

    ids: list[int]
    trained: list[bool]
    truncated: bool


@dataclass(frozen=True)
class Encoder:
    """Turns rows into token ids and answers back into text.

    The prompt and the answer are tokenized apart, so that training sees the border that generation
    will see. Nothing is added to what the template writes: a beginning token comes from its text.

    Attributes:
        tokenizer: carries the chat template that renders rows.
        end_id: the token that ends every answer.
        max_length: tokens a row may have.
        system: system message put before conversations without one.
        stop_ids: tokens that end a generation; ``end_id`` is the first.
    """

    tokenizer: PreTrainedTokenizerBase
    end_id: int
    max_length: int
    system: str | None
    stop_ids: tuple[int, ...]

    @property
    def tokenizer_hash(self) -> str:
        """A hash of what decides the ids of a text."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        text = backend.to_str() if backend is not None else json.dumps(self.tokenizer.get_vocab())
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def template_hash(self) -> str:
        """A hash of the chat template, the end token and the system message."""
        parts = [str(self.tokenizer.chat_template), self.end_id, self.system]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    def encode(self, row: Row) -> Encoded:
        """Return the row's ids and which of them train: answers and their end tokens, or all text.

        What is longer than ``max_length`` loses its end, the end token included, so that a cut
        answer is not taught as a whole one.

        Raises:
            InputError: the template refuses the row.
        """
        if row.text is not None:
            ids = self.prompt(row) + self._tokenize(row.text) + [self.end_id]
            # The first token has nothing before it to be predicted from.
            trained = [False] + [True] * (len(ids) - 1)
        else:
            ids, trained = self._encode_history(row)
            answer = [*self._tokenize(row.answer), self.end_id]
            ids, trained = ids + answer, trained + [True] * len(answer)
        limit = self.max_length
        return Encoded(ids[:limit], trained[:limit], len(ids) > limit)

    def prompt(self, row: Row) -> list[int]:
        """Return the ids generation starts from: all before the last answer (text: only BOS)."""
        if row.text is not None:
            begins = adds_begin_token(self.tokenizer)
            return [int(self.tokenizer.bos_token_id)] if begins else []
        return self._tokenize(self.prompt_text(row))

    def prompt_text(self, row: Row) -> str:
        """Return the rendered text of :meth:`prompt`, for a runtime to tokenize itself."""
        return render(self.tokenizer, self.messages(row)[:-1], row.where, open_answer=True)

    def messages(self, row: Row) -> tuple[Message, ...]:
        """Return the row's turns with the recipe's system message, where the row has none."""
        if self.system is None or row.messages[0].role == "system":
            return row.messages
        return (Message("system", self.system), *row.messages)

    def decode_answer(self, ids: Sequence[int]) -> str:
        """Return the text before the first stop id, without special tokens and outer space."""
        end = next((at for at, id in enumerate(ids) if id in self.stop_ids), len(ids))
        return str(self.tokenizer.decode(list(ids[:end]), skip_special_tokens=True)).strip()

    def _tokenize(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _encode_history(self, row: Row) -> tuple[list[int], list[bool]]:
        """Tokenize all before the last answer whole, and mark the earlier answers in it.

        A token trains if it begins inside an answer or the end token behind it (it may reach
        further: Phi-3's ``<|end|>`` takes the newline with it).
        """
        text = self.prompt_text(row)
        spans = self._answer_spans(text, self.messages(row)[:-1], row.where)
        if not spans:
            ids = self._tokenize(text)
            return ids, [False] * len(ids)
        if not self.tokenizer.is_fast:
            raise InputError(
                "earlier answers cannot be found: this tokenizer gives no offsets",
                where=row.where,
                hint="use the model's tokenizer.json, or rows of one answer",
            )
        coded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        inside = [
            any(start <= first < end for start, end in spans) for first, _ in coded.offset_mapping
        ]
        return list(coded.input_ids), inside

    def _answer_spans(
        self, text: str, messages: Sequence[Message], where: str
    ) -> list[tuple[int, int]]:
        """Return where in ``text`` each assistant turn and its end token lie.

        A template may rewrite earlier turns (drop their thoughts, say); what it does not show as it
        was said is not trained.
        """
        end_text = str(self.tokenizer.convert_ids_to_tokens(self.end_id))
        spans = []
        for index, message in enumerate(messages):
            if message.role != "assistant":
                continue
            before = render(self.tokenizer, messages[:index], where, open_answer=True)
            start = text.find(message.content, len(before)) if text.startswith(before) else -1
            if start >= 0:
                end = start + len(message.content)
                spans.append((start, end + len(end_text) * text.startswith(end_text, end)))
        return spans


def make_encoder(
    tokenizer: PreTrainedTokenizerBase, section: DataSection, end_token: str | None
) -> Encoder:
    """Return the encoder of a recipe. A tokenizer without a chat template is given a plain one.

    Args:
        tokenizer: as loaded from the model's folder.
        section: says the template, the system message and the longest row.
        end_token: ends every answer; ``None`` takes the template's, or else the tokenizer's EOS.

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
    return Encoder(tokenizer, end_id, section.max_length, section.system, stop_ids)


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
