"""Files to records: JSONL, JSON, CSV, Parquet, text (each also .gz), and datasets saved to disk."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetune.errors import InputError

END_OF_TEXT = "<|endoftext|>"  # separates texts in a file, as GPT-2's corpora write it


@dataclass(frozen=True)
class Record:
    """One raw row: its value, or what is wrong with it."""

    where: str
    value: dict[str, Any] | None
    fault: str = ""


def read_records(path: Path, split: str = "train") -> Iterator[Record]:
    """Yield the records of a file, or of one split of a Hugging Face dataset saved to disk.

    A text file is cut at ``<|endoftext|>`` where that occurs, and at blank lines elsewhere: each
    piece is a record with the key ``text``.

    Raises:
        InputError: an unreadable or empty file, or an ending that is not known.
    """
    if path.is_dir():
        yield from _read_saved(path, split)
        return
    if path.stat().st_size == 0:
        raise InputError("the file is empty", where=str(path))
    endings = [ending.lower() for ending in path.suffixes]
    ending = endings[-2] if endings[-1:] == [".gz"] and len(endings) > 1 else "".join(endings[-1:])
    readers = {
        ".jsonl": _read_jsonl,
        ".ndjson": _read_jsonl,
        ".json": _read_json,
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".parquet": _read_parquet,
        ".txt": _read_text,
    }
    if ending not in readers:
        known = " ".join(readers)
        raise InputError(f"unknown ending '{ending}'", where=str(path), hint=f"{known}, also .gz")
    yield from readers[ending](path)


def saved_splits(path: Path) -> tuple[str, ...]:
    """Return the names of a saved DatasetDict's splits; empty for anything else."""
    index = path / "dataset_dict.json"
    if not index.is_file():
        return ()
    return tuple(json.loads(index.read_text(encoding="utf-8"))["splits"])


def _read_bytes(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise InputError(f"cannot read the file: {error}", where=str(path)) from error


def _read_str(path: Path) -> str:
    data = _read_bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"byte {error.start} is not UTF-8", where=f"{path}:{line}", hint="convert the file"
        ) from error


def _read_jsonl(path: Path) -> Iterator[Record]:
    # str.splitlines would also cut at U+2028 inside a JSON string.
    for number, line in enumerate(_read_str(path).split("\n"), start=1):
        if line.strip():
            where = f"{path}:{number}"
            try:
                value = json.loads(line)
            except ValueError as error:
                yield Record(where, None, f"not JSON: {error}")
            else:
                yield _record(where, value)


def _read_json(path: Path) -> Iterator[Record]:
    try:
        values = json.loads(_read_str(path))
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg}", where=f"{path}:{error.lineno}") from error
    if not isinstance(values, list):
        raise InputError("the file is not a list of rows", where=str(path), hint="wrap it in [ ]")
    for number, value in enumerate(values, start=1):
        yield _record(f"{path}: item {number}", value)


def _read_csv(path: Path) -> Iterator[Record]:
    csv.field_size_limit(2**31 - 1)
    delimiter = "\t" if ".tsv" in path.suffixes else ","
    # newline="" keeps line ends inside quoted fields as they are.
    lines = io.StringIO(_read_str(path), newline="")
    reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise InputError(f"not CSV: {error}", where=f"{path}:{reader.line_num}") from error
        if fields is None:
            return
        where = f"{path}:{reader.line_num}"
        width = len(reader.fieldnames or ())
        if None in fields or None in fields.values():
            found = sum(v is not None for k, v in fields.items() if k is not None)
            found += len(fields.get(None) or ())
            yield Record(where, None, f"{found} fields where the header has {width}")
        else:
            yield Record(where, dict(fields))


def _read_parquet(path: Path) -> Iterator[Record]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(pyarrow.BufferReader(_read_bytes(path)))
    except pyarrow.ArrowException as error:
        raise InputError(f"not Parquet: {error}", where=str(path)) from error
    for number, value in enumerate(table.to_pylist(), start=1):
        yield Record(f"{path}: row {number}", value)


def _read_text(path: Path) -> Iterator[Record]:
    text = _read_str(path)
    separator = re.escape(END_OF_TEXT) if END_OF_TEXT in text else r"\n[^\S\n]*\n"
    line, start = 1, 0
    for match in [*re.finditer(separator, text), None]:
        piece = text[start : match.start() if match else len(text)]
        if piece.strip():
            first = line + len(piece[: len(piece) - len(piece.lstrip())].split("\n")) - 1
            yield Record(f"{path}:{first}", {"text": piece.strip()})
        if match:
            line += text.count("\n", start, match.end())
            start = match.end()


def _read_saved(path: Path, split: str) -> Iterator[Record]:
    import datasets

    try:
        saved = datasets.load_from_disk(str(path))
    except Exception as error:  # the library raises many kinds for a folder it cannot read
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"not a dataset saved to disk: {reason}",
            where=str(path),
            hint="name a file, or a folder made by datasets' save_to_disk",
        ) from error
    if isinstance(saved, datasets.DatasetDict):
        if split not in saved:
            raise InputError(
                f"the dataset has no split '{split}' (it has {', '.join(saved)})", where=str(path)
            )
        saved = saved[split]
    for number, value in enumerate(saved, start=1):
        yield Record(f"{path}[{split}]: row {number}", dict(value))


def _record(where: str, value: Any) -> Record:
    if isinstance(value, dict):
        return Record(where, value)
    return Record(where, None, f"a row is an object, not {type(value).__name__}")
