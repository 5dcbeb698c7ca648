"""Which types a GGUF file's keys and values can be cached in, read from its header."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgetune.runtimes.gguf_header import open_gguf

BLOCK = 32  # values of a block of Q8_0 and Q4_0


def find_kv_fault(path: Path, kv_cache: str) -> str:
    """Return why llama.cpp cannot run the file with a cache of this type; empty where it can.

    Raises:
        InputError: a broken file.
    """
    if kv_cache == "f16":
        return ""
    odd = sorted({size for size in _head_sizes(path) if size % BLOCK})
    sizes = " and ".join(map(str, odd))
    return f"a head of {sizes} values is no multiple of its blocks of {BLOCK}" if odd else ""


def _head_sizes(path: Path) -> Iterator[int]:
    """Yield the sizes of a head's keys and values, of whatever layers have other ones."""
    keys = open_gguf(path).keys
    prefix = keys.get("general.architecture", "?")
    counts = keys.get(f"{prefix}.attention.head_count", 1)
    width = keys.get(f"{prefix}.embedding_length", BLOCK)
    for kind in ("key", "value"):
        for ending in ("length", "length_swa"):
            size = keys.get(f"{prefix}.attention.{kind}_{ending}")
            if size is not None:
                yield int(size)
            elif ending == "length":
                heads = counts if isinstance(counts, list) else [counts]
                yield from (int(width) // int(count) for count in heads if count)
