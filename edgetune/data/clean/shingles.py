"""Shingles: the windows of a text's characters, as 64-bit hashes of many texts at once.

Windows of characters suit texts of ten words, in which one typing error would leave few windows of
words equal, and languages without spaces. Their length follows the script: five characters of an
alphabet, three syllables (Hangul, kana), two ideographs say about as much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

#: Characters of a shingle, by the script it begins in.
ALPHABETIC, SYLLABIC, IDEOGRAPHIC = 5, 3, 2
#: Characters that are hashed at a time: their arrays fit a core's cache.
BATCH = 1 << 16

#: First hash, hashes of all windows one after another, and the texts' borders in them.
Windows = tuple[int, np.ndarray, np.ndarray]

_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_SYLLABLES = ((0x3040, 0x30FF), (0x31F0, 0x31FF), (0xAC00, 0xD7AF), (0xFF66, 0xFF9D))
_IDEOGRAPHS = ((0x2E80, 0x2FDF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF),
               (0x20000, 0x323AF))  # fmt: skip


def normalize(text: str) -> str:
    """Return a text in lower case, each run of white space one blank: what shingles are cut of."""
    text = text.lower()
    if not text.isascii():
        return " ".join(text.split())
    for blank in "\n\t\r\f\v":  # four times as fast as to split
        if blank in text:
            text = text.replace(blank, " ")
    while "  " in text:
        text = text.replace("  ", " ")
    return text.strip()


def hash_shingles(texts: Sequence[str]) -> Iterator[Windows]:
    """Yield the shingles of texts, in batches.

    Yields:
        The number of the batch's first text, the hashes of its texts' shingles as uint64 (with
        repetitions, in the order of the text), and offsets into them, one more than texts.
    """
    yield from _hash([normalize(text) for text in texts], None)


def hash_windows(texts: Sequence[str], size: int) -> Iterator[Windows]:
    """Yield the windows of ``size`` characters of texts as they are, like :func:`hash_shingles`."""
    yield from _hash(texts, size)


def hash_set(windows: np.ndarray) -> np.ndarray:
    """Return the different hashes among a text's windows, sorted."""
    ordered = np.sort(windows)
    keep = np.empty(len(ordered), dtype=bool)
    keep[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=keep[1:])
    return ordered[keep]


def _hash(texts: Sequence[str], size: int | None) -> Iterator[Windows]:
    first = 0
    while first < len(texts):
        last, characters = first, 0
        while last < len(texts) and (last == first or characters + len(texts[last]) <= BATCH):
            characters += len(texts[last])
            last += 1
        yield first, *_hash_batch(texts[first:last], size)
        first = last


def _hash_batch(texts: Sequence[str], size: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Hash all windows of the joined texts in one pass, and keep those that lie in a text.

    A text shorter than its window is one window.
    """
    pad = size or ALPHABETIC
    joined = ("\0" * pad).join([*texts, "", ""])
    # A lone surrogate is a character like any other here.
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    starts = np.concatenate(([0], np.cumsum(lengths + pad)))
    count = int(starts[-1])
    if size is None and codes.max() >= _IDEOGRAPHS[0][0]:
        hashes, sizes = _hash_by_script(codes, count)
        ends = np.repeat(starts[:-1] + lengths, lengths + pad)
        keep = np.arange(count) + sizes <= ends
        keep[starts[:-1]] = True
        offsets = np.concatenate(([0], np.cumsum(keep)))[starts]
    else:
        hashes = _roll(codes, pad, count)
        windows = np.maximum(lengths - pad + 1, 1)
        offsets = np.concatenate(([0], np.cumsum(windows)))
        late = lengths + pad - windows
        keep = np.ones(count, dtype=bool)
        keep[np.repeat(starts[:-1] + windows - np.cumsum(late) + late, late)
             + np.arange(count - offsets[-1])] = False  # fmt: skip
    kept = hashes[keep]
    kept ^= kept >> np.uint64(32)
    kept *= _MIX
    kept ^= kept >> np.uint64(29)
    return kept, offsets


def _hash_by_script(codes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    hashes, sizes = _roll(codes, ALPHABETIC, count), np.full(count, ALPHABETIC, np.int64)
    for ranges, size in ((_SYLLABLES, SYLLABIC), (_IDEOGRAPHS, IDEOGRAPHIC)):
        inside = np.zeros(count, dtype=bool)
        for low, high in ranges:
            inside |= (codes[:count] >= low) & (codes[:count] <= high)
        if inside.any():
            hashes = np.where(inside, _roll(codes, size, count), hashes)
            sizes[inside] = size
    return hashes, sizes


def _roll(codes: np.ndarray, size: int, count: int) -> np.ndarray:
    """Return a polynomial hash (modulo 2^64) of the window that begins at each character.

    Windows of twice the length are put together of two, so that 24 characters take five steps.
    """
    part, length = codes.astype(np.uint64), 1
    done = size & 1
    total = part[:count].copy() if done else np.zeros(count, np.uint64)
    while 2 * length <= size:
        part = part[:-length] * _power(length) + part[length:]
        length *= 2
        if size & length:
            total *= _power(length)
            total += part[done : done + count]
            done += length
    return total


def _power(exponent: int) -> np.uint64:
    return np.uint64(pow(int(_BASE), exponent, 1 << 64))
