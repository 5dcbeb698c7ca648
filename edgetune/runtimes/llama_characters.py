"""Which characters a GGUF file's vocabulary can spell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llama_cpp import llama_cpp as c

from edgetune.errors import Unsupported


def find_characters(vocab: Any, token_text: Callable[[int], str]) -> set[str] | None:
    """Return the characters that can be tokenized, or none if every one can."""
    if c.llama_vocab_type(vocab) != c.LLAMA_VOCAB_TYPE_SPM:
        return None
    texts = {token_text(token) for token in range(c.llama_vocab_n_tokens(vocab))}
    return None if {"<0x00>", "<0xE6>", "<0xFF>"} <= texts else set("".join(texts))


def refuse_unknown(text: str, characters: set[str] | None, where: str) -> None:
    """Refuse what would abort the process: llama.cpp cannot handle a character outside a
    SentencePiece vocabulary without byte tokens.

    Raises:
        Unsupported: ``text`` has such a character.
    """
    if characters is None:
        return
    unknown = next((x for x in text.replace(" ", "▁") if x not in characters), None)
    if unknown:
        raise Unsupported(
            f"its vocabulary has neither {unknown!r} nor byte tokens to spell it",
            where=where,
            hint="llama.cpp cannot run this vocabulary on such text; use another format",
        )
