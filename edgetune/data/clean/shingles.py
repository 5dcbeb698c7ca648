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

#: The number of the first text, hashes of windows one text's after another's, and, one more than
#: texts, where each text's begin.
Windows = tuple[int, np.ndarray, np.ndarray]

_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_PAD = "\0" * ALPHABETIC
_BYTES = np.uint64((1 << 8 * ALPHABETIC) - 1)
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
        The number of the batch's first text, the hashes of its texts' shingles as uint64, and
        offsets into them, one more than texts. A text's hashes repeat, as its shingles may, and
        in no order: they are a set.
    """
    plain = [normalize(text) for text in texts]
    for first, last in _cut(plain):
        batch = plain[first:last]
        joined = _PAD.join([*batch, "", ""])
        lengths = np.fromiter(map(len, batch), dtype=np.int64, count=len(batch))
        starts = np.concatenate(([0], np.cumsum(lengths + ALPHABETIC)))
        count = int(starts[-1])
        hashes = _hash_bytes(joined.encode("latin-1", "replace"), count)
        sizes = None if joined.isascii() else _hash_others(hashes, _encode(joined))
        # Windows that begin in a text and end after it become one that is in it. A text shorter
        # than its window is one window.
        ends = np.repeat(lengths + starts[:-1], 2 * ALPHABETIC - 1)
        tails = ends + np.tile(np.arange(1 - ALPHABETIC, ALPHABETIC), len(batch))
        begins = np.repeat(starts[:-1], 2 * ALPHABETIC - 1)
        late = tails > begins
        if sizes is not None:
            late &= (tails >= ends) | (tails + sizes[np.minimum(tails, count - 1)] > ends)
        hashes[tails[late]] = hashes[begins[late]]
        hashes *= _MIX
        hashes ^= hashes >> np.uint64(32)
        hashes *= _BASE
        hashes ^= hashes >> np.uint64(29)
        yield first, hashes, starts


def hash_windows(texts: Sequence[str], size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number of each text and the hashes of its windows of ``size`` characters.

    Texts are taken as they are; those shorter than a window are left out.
    """
    for first, last in _cut(texts):
        codes = _encode("".join(texts[first:last]))
        hashes = _roll(codes, size, max(len(codes) - size + 1, 0))
        start = 0
        for number in range(first, last):
            length = len(texts[number])
            if length >= size:
                yield number, hashes[start : start + length - size + 1]
            start += length


def hash_set(windows: np.ndarray) -> np.ndarray:
    """Return the different hashes among a text's windows, sorted."""
    ordered = np.sort(windows)
    keep = np.empty(len(ordered), dtype=bool)
    keep[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=keep[1:])
    return ordered[keep]


def _cut(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Cut texts into batches of some length, and yield the first and last numbers of each."""
    first = 0
    while first < len(texts):
        last, characters = first, 0
        while last < len(texts) and (last == first or characters + len(texts[last]) <= BATCH):
            characters += len(texts[last])
            last += 1
        yield first, last
        first = last


def _encode(text: str) -> np.ndarray:
    # A lone surrogate is a character like any other here.
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def _hash_bytes(joined: bytes, count: int) -> np.ndarray:
    """Return each window of five bytes as a number."""
    joined += bytes(8)
    windows = np.ndarray((count,), dtype="<u8", buffer=joined, strides=(1,))
    return windows & _BYTES


def _hash_others(hashes: np.ndarray, codes: np.ndarray) -> np.ndarray | None:
    """Write hashes of the windows that are not of bytes; return lengths if not all are equal."""
    count = len(hashes)
    wide = np.flatnonzero(codes > 255)
    touched = np.zeros(count, dtype=bool)
    for place in range(ALPHABETIC):
        touched[wide[wide >= place] - place] = True
    begins = np.flatnonzero(touched)
    hashes[begins] = _hash_at(codes, begins, ALPHABETIC)
    if codes.max() < _IDEOGRAPHS[0][0]:
        return None
    sizes = np.full(count, ALPHABETIC, np.int64)
    for ranges, size in ((_SYLLABLES, SYLLABIC), (_IDEOGRAPHS, IDEOGRAPHIC)):
        found = codes[begins]
        inside = np.logical_or.reduce([(found >= low) & (found <= high) for low, high in ranges])
        hashes[begins[inside]] = _hash_at(codes, begins[inside], size)
        sizes[begins[inside]] = size
    return sizes


def _hash_at(codes: np.ndarray, begins: np.ndarray, size: int) -> np.ndarray:
    """Return a polynomial hash (modulo 2^64) of windows by where they begin."""
    total = np.zeros(len(begins), np.uint64)
    for place in range(size):
        total *= _BASE
        total += codes[begins + place]
    return total * _BASE


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
