"""A subject with its runtime loaded: asked alike whatever it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgetune.compare.model_spec import ModelSpec, declared_ends, read_clock
from edgetune.data.chat_format import clock_now
from edgetune.errors import EdgetuneError, InputError
from edgetune.models.chat_template import fold_templates
from edgetune.models.resolve import read_json
from edgetune.runtimes import Runtime
from edgetune.runtimes.gguf_header import open_gguf
from edgetune.runtimes.template import render_template


class LoadedModel:
    """One of the two models.

    The tokenizer and template of a tuned model are those of its contract, which training used, not
    those of the base it grew on. ``clock`` is the time that templates print; ``None`` is now.
    """

    def __init__(self, subject: ModelSpec, runtime: Runtime, clock: str | None = None) -> None:
        self.subject, self.runtime, self.clock = subject, runtime, clock

    @cached_property
    def _contract_tokenizer(self) -> Any:
        subject = self.subject
        if subject.format != "hf" or subject.contract in (None, subject.folder):
            return None
        from edgetune.models.tokenizer_files import load_tokenizer

        assert subject.contract is not None
        return load_tokenizer(subject.contract)

    def tokenize(self, text: str) -> list[int]:
        """Return the ids of ``text``; special tokens in it are recognised, none is added."""
        if self._contract_tokenizer is not None:
            return list(self._contract_tokenizer(text, add_special_tokens=False).input_ids)
        return self.runtime.tokenize(text)

    def render(self, messages: list[dict[str, Any]]) -> str:
        """Return the prompt of a conversation, ready to answer."""
        if self._contract_tokenizer is not None:
            tokenizer = self._contract_tokenizer
            special = tokenizer.special_tokens_map
            return render_template(
                tokenizer.chat_template, messages, special, str(self.subject.contract),
                clock=self.clock,
            )  # fmt: skip
        return self.runtime.render(messages, self.clock)

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Return float32 ``[T, V]``."""
        return self.runtime.logits(ids)

    @cached_property
    def template(self) -> str | None:
        """The source of its chat template."""
        if self.subject.format == "gguf":
            source = open_gguf(self.subject.folder).keys.get("tokenizer.chat_template")
        else:
            source = read_template(self.subject.contract or self.subject.folder)
        return source if isinstance(source, str) else None

    @cached_property
    def ends(self) -> list[int]:
        """The ids at which a client of this model stops."""
        found = declared_ends(self.subject)
        if self.subject.format == "gguf":
            return sorted(
                {*self.runtime.stop_ids(), *(one for ids in found.values() for one in ids)}
            )
        for name in ("contract.json", "generation_config.json", "genai_config.json", "config.json"):
            if found.get(name):
                return found[name]
        return []

    @cached_property
    def main_ends(self) -> list[int]:
        """Those that end its usual answers: of its contract, or its configuration and template."""
        found = declared_ends(self.subject)
        if found.get("contract.json"):
            return found["contract.json"]
        words, template = self.pieces or [], self.template or ""
        written = {one for one in self.ends if one < len(words) and words[one] in template}
        return sorted(written | set(found.get("config.json") or self.ends))

    @cached_property
    def tokenizer_json(self) -> dict[str, Any]:
        """The content of ``tokenizer.json``; empty where the model has none."""
        folder = self.subject.contract or self.subject.folder
        path = folder / "tokenizer.json" if folder.is_dir() else Path("/nonexistent")
        if not path.is_file():
            return {}
        return read_json(path, "copy the tokenizer again")

    @cached_property
    def pieces(self) -> list[str] | None:
        """The text of each id as the vocabulary spells it; ``None`` where it cannot be read."""
        if self.subject.format == "gguf":
            words = open_gguf(self.subject.folder).keys.get("tokenizer.ggml.tokens")
            return [str(one) for one in words] if isinstance(words, list) else None
        model = self.tokenizer_json.get("model")
        model = model.get("vocab") if isinstance(model, dict) else None
        if not isinstance(model, dict):
            return None
        every = {**model, **{str(one["content"]): one["id"] for one in self._added}}
        # Ids may have holes; numbers far beyond the count of words are no ids.
        if not all(isinstance(n, int) and 0 <= n < 2 * len(every) + 1024 for n in every.values()):
            where = str((self.subject.contract or self.subject.folder) / "tokenizer.json")
            raise InputError("the vocabulary holds a word whose id is out of range", where=where)
        words = [""] * (max(every.values(), default=-1) + 1)
        for word, number in every.items():
            words[number] = word
        return words

    @property
    def _added(self) -> list[dict[str, Any]]:
        added = self.tokenizer_json.get("added_tokens") or []
        if not isinstance(added, list) or not all(
            isinstance(one, dict) and {"content", "id"} <= one.keys() for one in added
        ):
            where = str((self.subject.contract or self.subject.folder) / "tokenizer.json")
            raise InputError("'added_tokens' is no list of tokens", where=where)
        return list(added)

    @cached_property
    def special_tokens(self) -> list[str]:
        """Texts of the tokens that a template may write; those of its ``tokenizer.json``."""
        return [str(one["content"]) for one in self._added if one.get("special")]


@contextmanager
def load_pair(
    reference: ModelSpec, candidate: ModelSpec
) -> Iterator[tuple[LoadedModel, LoadedModel]]:
    """Load both models; close both whatever happens."""
    first = reference.open()
    try:
        second = candidate.open()
        try:
            clock = (
                read_clock(reference) or read_clock(candidate) or clock_now()
            )  # one for both, past midnight too
            yield LoadedModel(reference, first, clock), LoadedModel(candidate, second, clock)
        finally:
            second.close()
    finally:
        first.close()


def read_template(folder: Path) -> Any:
    """Return the chat template of a Hugging Face or ONNX folder, ``None`` where it has none."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    path = folder / "tokenizer_config.json"
    found = read_json(path, "").get("chat_template") if path.is_file() else None
    return fold_templates(found, str(path))


def attempt(action: Any, *arguments: Any) -> tuple[Any, str | None]:
    """Return (result, None), or (None, what was said) where the model refuses."""
    try:
        return action(*arguments), None
    except EdgetuneError as error:
        return None, error.what
