"""How many ids a model's embedding has rows for, and whether its tokenizer keeps to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgetune.errors import Unsupported
from edgetune.models.resolve import read_json


def embedding_rows(folder: Path) -> int | None:
    """Return how many rows the embedding of a model folder has; ``None`` where none says so."""
    path = folder / "config.json"
    if not path.is_file():
        return None
    config = read_json(path, "")
    inner = config.get("text_config")
    size = config.get("vocab_size") or (
        inner.get("vocab_size") if isinstance(inner, dict) else None
    )
    return size if isinstance(size, int) else None


def check_vocabulary(folder: Path) -> None:
    """Refuse a model whose tokenizer has ids that its embedding has no row for.

    No format holds such a model: converters and runtimes look a row up for every token.

    Raises:
        Unsupported: names both sizes and the first such token.
    """
    rows, path = embedding_rows(folder), folder / "tokenizer.json"
    if rows is None or not path.is_file():
        return
    tokenizer = read_json(path, "")
    ids: dict[str, Any] = {one["content"]: one["id"] for one in tokenizer.get("added_tokens") or ()}
    pieces = (tokenizer.get("model") or {}).get("vocab") or {}
    if isinstance(pieces, dict):
        ids.update(pieces)
    else:  # Unigram: a list of (piece, score)
        ids.update({str(piece[0]): number for number, piece in enumerate(pieces)})
    beyond = sorted((number, token) for token, number in ids.items() if number >= rows)
    if beyond:
        number, token = beyond[0]
        raise Unsupported(
            f"the tokenizer has {beyond[-1][0] + 1} tokens and the model's embedding {rows} rows: "
            f"no row is for {token!r} ({number})",
            where=str(folder),
            hint="use the tokenizer that belongs to the model, or resize the model's embedding",
        )
