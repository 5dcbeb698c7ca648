"""Records, and the bytes and text of the files they come from: unpacked, decoded, bounded."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from edgetune.errors import InputError

# Text packs 3 to 20 times. What packs more than 150 times and is large is no text to train on:
# gzip can hold 1,032 times its size.
PACKED_RATIO = 150
PACKED_FREE_BYTES = 128 << 20
_BUFFER = 1 << 20


@dataclass(frozen=True)
class Record:
    """One raw row: its value, or what is wrong with it and what to do."""

    where: str
    value: dict[str, Any] | None
    fault: str = ""
    hint: str = ""


def make_record(where: str, value: Any, raw: str = "") -> Record:
    """Return the record of a JSON value: an object, a pair of text and label, or a list of turns.

    ``raw`` is the text it was read from, where it may hold half a character (an escape such as
    ``\\ud83d`` without its other half, which no UTF-8 text and no tokenizer can hold).
    """
    if isinstance(value, list):
        if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], str | int):
            value = {"text": value[0], "label": value[1]}
        elif value and all(isinstance(one, dict) and "role" in one for one in value):
            value = {"messages": value}
        elif value and all(isinstance(one, dict) and "from" in one for one in value):
            value = {"conversations": value}
    if not isinstance(value, dict):
        return Record(where, None, f"a row is an object, not {type(value).__name__}")
    if "\\ud" in raw or "\\uD" in raw:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            return Record(where, None, f"an unpaired surrogate, half a character: {half!r}")
        except RecursionError:
            return Record(where, None, "not JSON: nested too deeply")
    return Record(where, value)


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a file, unpacked where it is gzip, whatever its name.

    Raises:
        InputError: unreadable, a broken gzip file, or one that unpacks to far more than text does.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"cannot read the file: {error.strerror}", where=str(path)) from error
    with file:
        packed = file.peek(2)[:2] == b"\x1f\x8b" or path.suffix.lower() == ".gz"
        raw = _Unpacked(path, file) if packed else file
        yield cast(BinaryIO, io.BufferedReader(raw, _BUFFER) if packed else file)


@contextmanager
def open_text(path: Path, newline: str = "\n") -> Iterator[TextIO]:
    """Open a file as text: UTF-8, or UTF-16 with a byte order mark.

    Raises:
        InputError: as :func:`open_bytes`; or bytes that are no text, with their line.
    """
    with open_bytes(path) as file:
        head = cast(io.BufferedReader, file).peek(4)[:2]
        coding = "utf-16" if head in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        text = io.TextIOWrapper(file, encoding=coding, newline=newline)
        try:
            yield text
        except UnicodeDecodeError as error:
            raise _undecodable(path, error) from error
        finally:
            text.detach()


class _Unpacked(io.RawIOBase):
    """The content of a gzip file, which stops where no text could be that well packed."""

    def __init__(self, path: Path, packed: BinaryIO) -> None:
        self._path, self._packed, self._count = path, packed, 0
        self._gzip = gzip.GzipFile(fileobj=packed)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            count = self._gzip.readinto(buffer)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"cannot read the file: {error}", where=str(self._path)) from error
        self._count += count
        limit = max(PACKED_FREE_BYTES, PACKED_RATIO * self._packed.tell())
        if self._count > limit:
            raise InputError(
                f"it unpacks to more than {limit >> 20:,} MB, over {PACKED_RATIO} times its size: "
                "text does not pack so well",
                where=str(self._path),
                hint="if the rows are meant so, unpack it (gunzip -k) and name the unpacked file",
            )
        return count


def _undecodable(path: Path, error: UnicodeDecodeError) -> InputError:
    """Find the line: the decoder knows its place in a buffer only."""
    at = 0
    with open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as found:
                return InputError(
                    f"byte {at + found.start} is not UTF-8",
                    where=f"{path}:{number}",
                    hint="convert the file: iconv -f WINDOWS-1252 -t UTF-8, say",
                )
            at += len(line)
    return InputError(f"not {error.encoding} text: {error.reason}", where=str(path))
