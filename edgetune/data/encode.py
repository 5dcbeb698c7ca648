"""Rows to token ids: rendered, tokenized as generation will see them, and marked for training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from edgetune.data.chat_format import (
    adds_begin_token,
    clock_now,
    prints_time,
    reads,
    render,
    render_many,
    turn_for,
)
from edgetune.data.encoded import Encoded
from edgetune.data.rows import Message, Row
from edgetune.data.spans import Around, find_answers, mark_spans
from edgetune.data.whole_turns import Written, write_turns
from edgetune.errors import InputError

#: Ids of a prompt, and 1 for each that trains.
_Prompt = tuple[list[int], list[int]]


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
        clock: the time that a template prints which prints one, ISO 8601; frozen at tuning, so
            that later stages render what training saw.
        embedding_rows: how many ids the model's embedding has rows for, where that is known.
    """

    tokenizer: PreTrainedTokenizerBase
    end_id: int
    max_length: int
    system: str | None
    stop_ids: tuple[int, ...]
    clock: str = field(default_factory=clock_now)
    embedding_rows: int | None = None
    # What the template writes around contents, by roles.
    _around: dict[tuple[str, ...], Around | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def tokenizer_hash(self) -> str:
        """A hash of what decides the ids of a text."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        text = backend.to_str() if backend is not None else json.dumps(self.tokenizer.get_vocab())
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def template_hash(self) -> str:
        """A hash of the chat template, the end token, the system message and a printed date."""
        parts = [str(self.tokenizer.chat_template), self.end_id, self.system]
        if prints_time(self.tokenizer):
            parts.append(self.clock)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    def encode(self, row: Row) -> Encoded:
        """Return the row's ids and which of them train: answers and their end tokens, or all text.

        What is longer than ``max_length`` loses its end, the end token included, so that a cut
        answer is not trained as a whole one.

        Raises:
            InputError: the template refuses the row.
        """
        found = self.encode_many([row])[0]
        if isinstance(found, InputError):
            raise found
        return found

    def encode_many(self, rows: Sequence[Row]) -> list[Encoded | InputError]:
        """Return what :meth:`encode` returns for each row, or would raise, in a tenth of the time.

        Rows are rendered and tokenized together; hundreds at a time are enough.
        """
        return [
            found
            if isinstance(found, InputError)
            else replace(found[0], truncated=found[0].truncated or len(found) > 1)
            for found in self.encode_pieces(rows)
        ]

    def encode_pieces(self, rows: Sequence[Row]) -> list[list[Encoded] | InputError]:
        """Return each row's tokens, a long plain text in pieces, or why it has none.

        A conversation is one piece, cut at ``max_length``. A piece of a text that goes on begins
        with the last token before it, which gives its first token something to be predicted from:
        so each token but the text's first trains once.
        """
        written = self._write_turns(rows)
        prompts = self._encode_prompts(rows, written)
        texts = [
            one.answer if isinstance(one := written.get(number), Written) else row.answer
            for number, row in enumerate(rows)
        ]
        answers = self._tokenize_many(texts)
        return [
            prompt
            if isinstance(prompt, InputError)
            else self._join(row, prompt, self._end(answer, written.get(number)))
            for number, (row, prompt, answer) in enumerate(zip(rows, prompts, answers, strict=True))
        ]

    def _end(self, answer: list[int], written: Written | InputError | None) -> list[int]:
        """Append the end token to an answer that contains no end token."""
        ends = not isinstance(written, Written) or written.ends
        return [*answer, self.end_id] if ends else answer

    def _join(self, row: Row, prompt: _Prompt, answer: list[int]) -> list[Encoded] | InputError:
        before, trained = prompt
        ids, trained = [*before, *answer], [*trained, *([1] * len(answer))]
        if self.embedding_rows is not None and max(ids) >= self.embedding_rows:
            token = max(ids)
            return InputError(
                f"the token {self.tokenizer.convert_ids_to_tokens(token)!r} has the id {token}, "
                f"and the model's embedding has {self.embedding_rows} rows",
                where=row.where,
                hint="use the tokenizer that belongs to the model, or leave such rows out",
            )
        limit = self.max_length
        if row.text is None:
            return [Encoded(ids[:limit], trained[:limit], len(ids) > limit)]
        trained[0] = 0  # it has nothing before it to be predicted from
        pieces = [Encoded(ids[:limit], trained[:limit], False)]
        at, step = limit, limit - len(before) - 1
        while at < len(ids) and step > 0:
            piece = [*before, ids[at - 1], *ids[at : at + step]]
            marks = [0] * (len(before) + 1) + trained[at : at + step]
            pieces.append(Encoded(piece, marks, False))
            at += step
        return pieces

    def prompt(self, row: Row) -> list[int]:
        """Return the ids generation starts from: all before the last answer (text: only BOS)."""
        if row.text is not None:
            return self._begin()
        return self._tokenize(self.prompt_text(row))

    def prompt_text(self, row: Row) -> str:
        """Return the rendered text of :meth:`prompt`, for a runtime to tokenize itself."""
        return render(
            self.tokenizer, self.messages(row)[:-1], row.where, open_answer=True,
            clock=self.clock, tools=row.tools,
        )  # fmt: skip

    def answer_text(self, row: Row) -> str:
        """Return the row's answer as :meth:`decode_answer` would give it: with its tool calls.

        Raises:
            InputError: the template refuses the row.
        """
        if self._is_plain(row):
            return row.answer
        written = self._write_turns([row])[0]
        if isinstance(written, InputError):
            raise written
        return self.decode_answer(self._tokenize(written.answer))

    def messages(self, row: Row) -> tuple[Message, ...]:
        """Return the row's turns with the recipe's system message, where the row has none."""
        if self.system is None or row.messages[0].role == "system":
            return row.messages
        return (Message("system", self.system), *row.messages)

    def decode_answer(self, ids: Sequence[int]) -> str:
        """Return the text before the first stop id, without special tokens and outer space."""
        end = next((at for at, id in enumerate(ids) if id in self.stop_ids), len(ids))
        return str(self.tokenizer.decode(list(ids[:end]), skip_special_tokens=True)).strip()

    def _is_plain(self, row: Row) -> bool:
        """Whether the template reads nothing of a row but roles and contents."""
        if row.is_plain:
            return True
        if any("tool_calls" in turn.more for turn in row.messages):
            return False
        source = str(self.tokenizer.chat_template)
        keys = {"tools"} if row.tools else set()
        for turn in row.messages:
            keys |= turn_for(turn, source).keys() if turn.more else set()
        return not any(reads(source, key) for key in keys - {"role", "content"})

    def _begin(self) -> list[int]:
        """What a plain text begins with."""
        begins = adds_begin_token(self.tokenizer)
        return [int(self.tokenizer.bos_token_id)] if begins else []

    def _tokenize(self, text: str) -> list[int]:
        return self._tokenize_many([text])[0]

    def _tokenize_many(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        coded = self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)
        return list(coded.input_ids)

    def _write_turns(self, rows: Sequence[Row]) -> dict[int, Written | InputError]:
        """Return those rows, by number, whose turns hold more than contents."""
        numbers = [number for number, row in enumerate(rows) if not self._is_plain(row)]
        if not numbers:
            return {}

        def render_turns(
            conversations: Sequence[Sequence[Message]], where: Sequence[str],
            tools: Sequence[str], open_answer: bool,
        ) -> list[str | InputError]:  # fmt: skip
            return render_many(
                self.tokenizer, conversations, where, open_answer=open_answer,
                clock=self.clock, tools=tools,
            )  # fmt: skip

        some = [rows[number] for number in numbers]
        end_text = str(self.tokenizer.convert_ids_to_tokens(self.end_id))
        turns = [self.messages(row) for row in some]
        return dict(zip(numbers, write_turns(render_turns, some, turns, end_text), strict=True))

    def _encode_prompts(
        self, rows: Sequence[Row], written: Mapping[int, Written | InputError]
    ) -> list[_Prompt | InputError]:
        """Tokenize all before each row's last answer whole, and mark the earlier answers in it.

        A token trains if it begins inside an answer or the end token after it (it may reach
        further: Phi-3's ``<|end|>`` takes the newline with it).
        """
        end_text = str(self.tokenizer.convert_ids_to_tokens(self.end_id))
        found: dict[int, _Prompt | InputError] = {}
        plain, marked = [], []  # (row number, text), and those with answers in it also the spans
        for number, one in written.items():
            if isinstance(one, InputError):
                found[number] = one
            elif one.spans:
                marked.append((number, one.context, one.spans))
            else:
                plain.append((number, one.context))
        chats = [n for n, row in enumerate(rows) if row.text is None and n not in written]
        turns = [self.messages(rows[number])[:-1] for number in chats]
        texts = self._render_many(turns, [rows[number].where for number in chats])
        for number, some, text in zip(chats, turns, texts, strict=True):
            if isinstance(text, InputError):
                found[number] = text
            elif spans := find_answers(
                self._render_many, text, some, rows[number].where, end_text, self._around
            ):
                marked.append((number, text, spans))
            else:
                plain.append((number, text))
        for (number, _), ids in zip(
            plain, self._tokenize_many([text for _, text in plain]), strict=True
        ):
            found[number] = ids, [0] * len(ids)
        if marked:
            where = [rows[number].where for number, *_ in marked]
            texts_spans = [(text, spans) for _, text, spans in marked]
            numbers = [number for number, *_ in marked]
            found.update(zip(numbers, mark_spans(self.tokenizer, texts_spans, where), strict=True))
        begin = self._begin() if len(found) < len(rows) else []
        return [found.get(number, (begin, [0] * len(begin))) for number in range(len(rows))]

    def _render_many(
        self, conversations: Sequence[Sequence[Message]], where: Sequence[str]
    ) -> list[str | InputError]:
        return render_many(self.tokenizer, conversations, where, open_answer=True, clock=self.clock)
