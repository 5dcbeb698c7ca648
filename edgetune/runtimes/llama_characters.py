"""Which characters a GGUF file's vocabulary can spell."""

from __future__ import annotations

from edgetune.errors import Unsupported


def find_characters(texts: set[str]) -> set[str] | None:
    """Return the characters that a SentencePiece vocabulary of these texts can spell, or none if
    that is every one."""
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
