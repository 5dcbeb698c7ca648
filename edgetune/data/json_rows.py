"""JSON to records: lines, arrays, and objects that hold a list a split, read piece by piece."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, TextIO

from edgetune.data.records import Record, make_record, open_text
from edgetune.errors import InputError

# Keys whose list of objects belongs to a row; under any other key it is a list of rows.
ROW_KEYS = frozenset(
    ("messages", "conversations", "prompt", "completion", "chosen", "rejected", "tools",
     "functions", "history", "turns")
)  # fmt: skip
NAME_KEYS = ("names", "label_names", "labels", "classes", "categories", "intents")
TOO_DEEP = "not JSON: nested too deeply"
_CHUNK = 1 << 20
_LONGEST = 256 << 20  # characters of one row
_MARKS = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass
class Parts:
    """What lies in a JSON file: the keys of its lists of rows, and the names of its labels."""

    keys: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


def read_json(path: Path, key: str | None = None) -> Iterator[Record]:
    """Yield the records of a JSON file; of the list under ``key``, where it holds several.

    Lines of JSON and arrays are distinguished by the content, not by the file's suffix.

    Raises:
        InputError: not JSON, with the line. A faulty line of many is a faulty record.
    """
    if _is_lines(path):
        yield from _read_lines(path)
        return
    names = list_parts(path).names
    with open_text(path) as text:
        for record in _Values(text, path).records(key, Parts()):
            yield _named(record, names) if names else record


def list_parts(path: Path) -> Parts:
    """Return the lists that the object in a JSON file holds; none for lines and arrays."""
    stat = path.stat()
    return _list_parts(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _list_parts(path: Path, size: int, time: int) -> Parts:
    parts = Parts()
    if not _is_lines(path):
        with open_text(path) as text:
            values = _Values(text, path)
            if values.peek() == "{":
                for _ in values.records("", parts):
                    pass
    return parts


def _is_lines(path: Path) -> bool:
    """Whether each line is a row: the first is complete and has others after it.

    A broken first line is one bad row, if one of those after it is complete.
    """
    with open_text(path) as text:
        lines = (line for line in iter(lambda: text.readline(_CHUNK), "") if line.strip())
        first = next(lines, "")
        others = islice(lines, 20)
        mark = first.lstrip()[:1]
        if mark not in ("{", "["):
            return path.suffix.lower() != ".json"
        if _is_whole(first):
            return next(others, "") != ""
        return mark == "{" and any(line.startswith("{") and _is_whole(line) for line in others)


def _is_whole(line: str) -> bool:
    try:
        json.loads(line)
    except RecursionError:
        marks = [match[0] for match in _MARKS.finditer(line)]
        opened = sum(mark in ("[", "{") for mark in marks)
        return opened == sum(mark in ("]", "}") for mark in marks) and line.rstrip()[-1] in "]}"
    except ValueError:
        return False
    return True


def _read_lines(path: Path) -> Iterator[Record]:
    with open_text(path) as text:
        for number, line in enumerate(text, start=1):
            if line.strip():
                where = f"{path}:{number}"
                try:
                    value = json.loads(line)
                except ValueError as error:
                    yield Record(where, None, f"not JSON: {error}")
                except RecursionError:
                    yield Record(where, None, TOO_DEEP)
                else:
                    yield make_record(where, value, line)


class _Values:
    """The JSON values of a text, one after the other, with one row in memory at a time."""

    def __init__(self, text: TextIO, path: Path) -> None:
        self._text, self._path = text, path
        self._decode = json.JSONDecoder().raw_decode
        self._buffer, self._at, self._line, self._ended = "", 0, 1, False

    def records(self, key: str | None, parts: Parts) -> Iterator[Record]:
        """Yield the records of all values; ``key`` chooses among an object's lists.

        The lists' keys and the labels' names that are met are put down in ``parts``.
        """
        number = 0
        while mark := self.peek():
            if mark == "[":
                yield from self._items(f"{self._path}: item")
            elif mark == "{":
                number += 1
                yield from self._object(key, parts, f"{self._path}: item {number}")
            else:
                self._value()
                yield Record(str(self._path), None, "a row is an object")

    def peek(self) -> str:
        """Return the next character that is no space, and move to it; ``""`` at the end."""
        while True:
            self._at = _SPACE.match(self._buffer, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._buffer) or self._ended:
                return self._buffer[self._at : self._at + 1]
            self._fill()

    def _object(self, key: str | None, parts: Parts, where: str) -> Iterator[Record]:
        row: dict[str, Any] = {}
        found = False
        self._take("{")
        while self.peek() != "}":
            name, _ = self._value()
            if not isinstance(name, str):
                self._fail("a key is a text")
            self.peek()
            self._take(":")
            if self.peek() == "[" and name not in ROW_KEYS and self._holds_rows():
                found = True
                parts.keys.append(name)
                for record in self._items(f"{self._path}[{name}]: item"):
                    if key is None or key == name:
                        yield record
            else:
                row[name], _ = self._value()
            if self.peek() != ",":
                break
            self._take(",")
        self.peek()
        self._take("}")
        if found:
            parts.names += next(
                (list(row[k]) for k in NAME_KEYS if _is_names(row.get(k))), list[str]()
            )
        elif key is None:
            yield make_record(where, row, "\\ud")

    def _holds_rows(self) -> bool:
        """Whether the list that begins here holds objects or lists."""
        at = self._at + 1
        while True:
            at = _SPACE.match(self._buffer, at).end()  # type: ignore[union-attr]
            if at < len(self._buffer) or self._ended:
                return self._buffer[at : at + 1] in ("{", "[")
            at -= self._at
            self._fill()

    def _items(self, where: str) -> Iterator[Record]:
        self._take("[")
        number = 0
        if self.peek() == "]":
            self._take("]")
            return
        while True:
            number += 1
            value, raw = self._value()
            if raw:
                yield make_record(f"{where} {number}", value, raw)
            else:
                yield Record(f"{where} {number}", None, TOO_DEEP)
            if self.peek() == "]":
                self._take("]")
                return
            self._take(",")
            self.peek()

    def _value(self) -> tuple[Any, str]:
        """Return the value that begins here and its text; no text, if it nests too deeply."""
        while True:
            try:
                value, end = self._decode(self._buffer, self._at)
            except RecursionError:
                self._skip()
                return None, ""
            except json.JSONDecodeError as error:
                if self._ended or len(self._buffer) - self._at > _LONGEST:
                    self._fail(error.msg, error.pos)
            except ValueError as error:  # a number of thousands of digits
                self._fail(str(error))
            else:
                # A number may go on behind the buffer's end.
                if end < len(self._buffer) or self._ended:
                    raw, self._at = self._buffer[self._at : end], end
                    return value, raw
            self._fill()

    def _skip(self) -> None:
        """Move past the value that begins here, by its brackets."""
        while True:
            depth = 0
            for match in _MARKS.finditer(self._buffer, self._at):
                depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
                if depth == 0:
                    self._at = match.end()
                    return
            if self._ended:
                self._fail("nested too deeply, and not closed")
            self._fill()

    def _take(self, mark: str) -> None:
        if self._buffer[self._at : self._at + 1] != mark:
            self._fail(f"Expecting '{mark}'")
        self._at += 1

    def _fill(self) -> None:
        """Read on: as much again as is unread, so that a long value is not tried too often."""
        self._line += self._buffer.count("\n", 0, self._at)
        self._buffer = self._buffer[self._at :]
        chunk = self._text.read(max(_CHUNK, len(self._buffer)))
        self._buffer, self._at, self._ended = self._buffer + chunk, 0, not chunk

    def _fail(self, what: str, at: int | None = None) -> NoReturn:
        line = self._line + self._buffer.count("\n", 0, self._at if at is None else at)
        raise InputError(f"not JSON: {what}", where=f"{self._path}:{line}")


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)


def _named(record: Record, names: list[str]) -> Record:
    """Replace a label's number by its name."""
    value = record.value or {}
    number = value.get("label")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(names):
        return record
    return Record(record.where, {**value, "label": names[number]}, record.fault)
