"""What lm-eval asks of a model file beside its runtime: special tokens, context, template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetune.errors import InputError
from edgetune.models.resolve import read_json
from edgetune.runtimes import GENAI_CONFIG, Runtime
from edgetune.runtimes.gguf_header import open_gguf

#: Keys of ``config.json`` that hold the context length, as lm-eval's ``hf`` model looks for it.
_LENGTHS = ("n_positions", "max_position_embeddings", "n_ctx")
DEFAULT_LENGTH = 2048  # lm-eval's own, where nothing says


@dataclass(frozen=True)
class Vocabulary:
    """A file's own word on these.

    Attributes:
        begin: id of the token that texts begin with; None where the file names none.
        end: id of the token that ends a text.
        texts: text of those two by id.
        context: how many tokens the model takes.
        template: its chat template, or None.
    """

    begin: int | None
    end: int | None
    texts: Mapping[int, str]
    context: int
    template: str | None


def read_vocabulary(path: Path, runtime: Runtime) -> Vocabulary:
    """Read it from a ``.gguf`` file, an ONNX folder or a Hugging Face folder.

    Raises:
        InputError: a file that cannot be read.
    """
    if path.is_file():
        return _read_gguf(path)
    config = read_json(path / "tokenizer_config.json", "it belongs to the tokenizer's files")
    ids, texts = {}, {}
    for role in ("bos_token", "eos_token"):
        value = config.get(role)
        text = value.get("content") if isinstance(value, dict) else value
        found = runtime.tokenize(text) if text else []
        if len(found) == 1:
            ids[role], texts[found[0]] = found[0], str(text)
    template = path / "chat_template.jinja"
    source = template.read_text(encoding="utf-8") if template.is_file() else None
    return Vocabulary(
        ids.get("bos_token"),
        ids.get("eos_token"),
        texts,
        _context_of_folder(path),
        source or (str(config["chat_template"]) if config.get("chat_template") else None),
    )


def _read_gguf(path: Path) -> Vocabulary:
    keys = open_gguf(path).keys
    words = keys.get("tokenizer.ggml.tokens") or []
    ids: dict[str, int | None] = {}
    for role in ("bos", "eos"):
        value = keys.get(f"tokenizer.ggml.{role}_token_id")
        ids[role] = int(value) if value is not None and 0 <= int(value) < len(words) else None
    context = keys.get(f"{keys.get('general.architecture')}.context_length")
    texts = {found: str(words[found]) for found in ids.values() if found is not None}
    template = keys.get("tokenizer.chat_template")
    return Vocabulary(
        ids["bos"],
        ids["eos"],
        texts,
        int(context) if context else DEFAULT_LENGTH,
        str(template) if template else None,
    )


def _context_of_folder(path: Path) -> int:
    """Return the context length that an ONNX or Hugging Face folder states."""
    if (path / GENAI_CONFIG).is_file():
        model = read_json(path / GENAI_CONFIG, "an ONNX folder of the genai builder has one")
        found = model.get("model", {}).get("context_length")
        return int(found) if found else DEFAULT_LENGTH
    config = read_json(path / "config.json", "a Hugging Face folder has one")
    for part in (config.get("text_config") or {}, config):
        for key in _LENGTHS:
            if part.get(key):
                return int(part[key])
    return DEFAULT_LENGTH


def check_length(max_length: Any, context: int, where: str) -> int:
    """Return the context to use: the file's, or what the user gave.

    Raises:
        InputError: not a positive whole number.
    """
    if max_length is None:
        return context
    if not isinstance(max_length, int) or max_length < 2:
        raise InputError(f"max_length {max_length!r} is no number of tokens", where=where)
    return max_length
