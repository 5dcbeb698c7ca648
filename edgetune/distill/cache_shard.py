"""A shard of the cache: bit-packed entries of some rows, read through a memory map.

The file is a safetensors file (8 bytes of header length, a JSON header, the arrays), so that other
tools can read it. Its arrays:

- ``starts`` int32 [rows + 1, 3]: at which position, entry and written count each row begins;
- ``lengths``: entries of each position, less one;
- ``several``: how many entries of each position, after its first, have a count above one;
- ``ids``: of every entry;
- ``counts``: of those entries, less two. The first count of a position is what the others leave of
  all draws, and the rest are one, so neither is written.

The last four are streams of unsigned numbers of a fixed width in bits, the first bit highest. Of a
top-k cut no lengths are written, but every count, in 16 bits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetune.distill.sparse_probs import Entries
from edgetune.errors import InputError

DIGEST = "sha256"  # of everything behind the header, in the header's metadata


@dataclass(frozen=True)
class Layout:
    """Sizes that fix the bit widths of a shard's streams.

    Attributes:
        vocabulary: tokens.
        draws: of a sample; 0 for a top-k cut.
        k: entries of a top-k cut; 0 for a sample.
    """

    vocabulary: int
    draws: int = 0
    k: int = 0

    @property
    def widths(self) -> dict[str, int]:
        """Bits of each stream."""
        ids = max(1, (self.vocabulary - 1).bit_length())
        if self.k:
            return {"lengths": 0, "several": 0, "ids": ids, "counts": 16}
        return {
            "lengths": (self.draws - 1).bit_length(),
            "several": (self.draws // 2).bit_length(),
            "ids": ids,
            # The second largest count is half of the draws at most.
            "counts": max(0, self.draws // 2 - 2).bit_length(),
        }


def pack(numbers: np.ndarray, width: int) -> np.ndarray:
    """Return unsigned numbers as a stream of ``width`` bits each, the first bit highest."""
    if not width:
        return np.zeros(0, np.uint8)
    shifts = np.arange(width - 1, -1, -1)
    bits = (numbers.astype(np.int64)[:, None] >> shifts) & 1
    return np.packbits(bits.astype(np.uint8).ravel())


def unpack(stream: np.ndarray, first: int, count: int, width: int) -> np.ndarray:
    """Return ``count`` numbers of a stream from number ``first`` on, int64."""
    if not width or not count:
        return np.zeros(count, np.int64)
    begin, end = first * width, (first + count) * width
    bits = np.unpackbits(stream[begin // 8 : -(-end // 8)])[begin % 8 :][: count * width]
    padded = np.zeros((count, -(-width // 8) * 8), np.uint8)
    padded[:, padded.shape[1] - width :] = bits.reshape(count, width)
    octets = np.packbits(padded, axis=1).astype(np.int64)
    value = octets[:, 0]
    for column in range(1, octets.shape[1]):
        value = value << 8 | octets[:, column]
    return value


def write_shard(path: Path, rows: Sequence[Entries], layout: Layout) -> None:
    """Write the entries of some rows; the file is renamed into place when it is whole."""
    positions = np.array([len(row.lengths) for row in rows])
    lengths = np.concatenate([row.lengths for row in rows])
    ids, counts = (
        np.concatenate([getattr(row, name) for row in rows]) for name in ("ids", "counts")
    )
    owners = np.repeat(np.arange(len(lengths)), lengths)
    first = np.zeros(len(ids), bool)
    first[np.cumsum(lengths)[:-1]] = True
    first[:1] = True
    written = np.ones(len(ids), bool) if layout.k else ~first & (counts > 1)
    several = np.bincount(owners[written], minlength=len(lengths)) if len(ids) else lengths
    widths = layout.widths
    by_row = np.repeat(np.arange(len(rows)), positions)
    starts = np.zeros((len(rows) + 1, 3), np.int32)
    for column, each in enumerate((np.ones_like(lengths), lengths, several)):
        totals = np.bincount(by_row, weights=each, minlength=len(rows)) if len(each) else 0
        starts[1:, column] = np.cumsum(totals * np.ones(len(rows)))
    arrays = {
        "starts": starts,
        "lengths": pack(lengths - 1, widths["lengths"]),
        "several": pack(several, widths["several"]),
        "ids": pack(ids, widths["ids"]),
        "counts": pack(counts[written] - (0 if layout.k else 2), widths["counts"]),
    }
    _write(path, arrays)


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    table: dict[str, Any] = {}
    parts, at = [], 0
    for name, array in arrays.items():
        raw = array.tobytes()
        kind = "I32" if array.dtype == np.int32 else "U8"
        table[name] = {
            "dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + len(raw)],
        }  # fmt: skip
        parts.append(raw)
        at += len(raw)
    data = b"".join(parts)
    table["__metadata__"] = {DIGEST: hashlib.sha256(data).hexdigest()}
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(len(text).to_bytes(8, "little") + text + data)
    temporary.replace(path)


class Shard:
    """Reads what :func:`write_shard` wrote.

    Raises:
        InputError: a file that is torn or changed.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self._layout, self._widths = layout, layout.widths
        try:
            raw = np.memmap(path, mode="r")
            size = int.from_bytes(raw[:8].tobytes(), "little")
            table = json.loads(raw[8 : 8 + size].tobytes())
            data = raw[8 + size :]
            if hashlib.sha256(data.data).hexdigest() != table["__metadata__"][DIGEST]:
                raise ValueError("its bytes are not those that were written")
            arrays = {
                name: data[slice(*entry["data_offsets"])]
                for name, entry in table.items()
                if name != "__metadata__"
            }
            self._starts = arrays["starts"].view(np.int32).reshape(-1, 3)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"a broken shard of the teacher's cache: {error}",
                where=str(path),
                hint="delete it: it alone is made again",
            ) from error
        self._streams = arrays

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, row: int) -> Entries:
        (position, entry, count), (last_position, last_entry, last_count) = self._starts[
            row : row + 2
        ].astype(np.int64)
        positions, entries = last_position - position, last_entry - entry
        ids = self._read("ids", entry, entries)
        counts = self._read("counts", count, last_count - count)
        if self._layout.k:
            return Entries(
                np.full(positions, min(self._layout.k, self._layout.vocabulary)), ids, counts
            )
        lengths = self._read("lengths", position, positions) + 1
        several = self._read("several", position, positions)
        every = np.ones(entries, np.int64)
        first = np.cumsum(lengths) - lengths
        # Behind a position's first entry come those whose count is written.
        rank = np.arange(entries) - np.repeat(first, lengths)
        every[(rank > 0) & (rank <= np.repeat(several, lengths))] = counts + 2
        sums = np.add.reduceat(every, first) if entries else np.zeros(0, np.int64)
        every[first] += self._layout.draws - sums
        return Entries(lengths, ids, every)

    def _read(self, name: str, first: int, count: int) -> np.ndarray:
        return unpack(self._streams[name], int(first), int(count), self._widths[name])
