"""Files to records: JSON, CSV, Parquet, text (each also .gz), and datasets saved to disk."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, compress
from pathlib import Path

from edgetune.data.arrow_rows import iterate_rows, read_parquet, read_saved
from edgetune.data.csv_rows import read_csv
from edgetune.data.documents.read import DOCUMENTS, PAGE, read_document
from edgetune.data.hub_rows import load_hub
from edgetune.data.json_rows import read_json
from edgetune.data.mixing import choose_numbers
from edgetune.data.parts import ENDINGS, JSON_ENDINGS, Piece, ending_of
from edgetune.data.records import Record, open_bytes, open_text
from edgetune.data.sources import Source, open_source
from edgetune.data.sqlite_rows import read_sqlite
from edgetune.errors import InputError

END_OF_TEXT = "<|endoftext|>"  # separates texts in a file, as GPT-2's corpora write it


def read_records(source: Source | Path, split: str = "train", seed: int = 0) -> Iterator[Record]:
    """Yield the records of a source, in the order of its files; as many as its limit says.

    A text file is cut at ``<|endoftext|>`` where that occurs, and at blank lines elsewhere: each
    piece is a record with the key ``text``. A document is one record, and so is a text file whose
    texts are going to be chunked. Sources with a limit are read twice: how many rows there are
    decides which are chosen.

    Raises:
        InputError: an unreadable or empty file, an ending that is not known, or no such split.
    """
    if isinstance(source, Path):
        source = open_source(str(source), split)
    for number, (named, part) in enumerate(source.named):
        if named.limit is None:
            yield from _read_pieces(part.pieces)
            continue
        count = sum(1 for _ in _read_pieces(part.pieces))
        yield from compress(
            _read_pieces(part.pieces), choose_numbers(count, named.limit, seed, number)
        )


def _read_pieces(pieces: Iterable[Piece]) -> Iterator[Record]:
    for piece in pieces:
        yield from _read_piece(piece)


def _read_piece(piece: Piece) -> Iterator[Record]:
    path = piece.path
    if piece.commit is not None and piece.key is not None:
        yield from iterate_rows(load_hub(piece.source)[piece.key], str(piece))
        return
    if path.is_dir():
        yield from read_saved(path, piece.key)
        return
    if piece.source.query is not None:
        yield from read_sqlite(path, piece.source.query)
        return
    ending = ending_of(path)
    if ending not in ENDINGS:
        raise InputError(
            f"unknown ending '{ending}'", where=str(path), hint=f"{' '.join(ENDINGS)}, also .gz"
        )
    if ending in DOCUMENTS:
        record = read_document(path, ending)
        if record.value and not piece.chunked:
            record.value["text"] = record.value["text"].replace(PAGE, "\n\n")
        yield record
        return
    with open_bytes(path) as file:
        if not file.read(1):
            raise InputError("the file is empty", where=str(path))
    if ending in JSON_ENDINGS:
        yield from read_json(path, piece.key)
    elif ending in (".csv", ".tsv"):
        yield from read_csv(path)
    elif ending == ".parquet":
        yield from read_parquet(path)
    else:
        yield from _read_text(path, piece.chunked)


def _read_text(path: Path, whole: bool) -> Iterator[Record]:
    with open_text(path) as text:
        separated = any(END_OF_TEXT in line for line in text)
    with open_text(path) as text:
        if whole and not separated:
            yield Record(str(path), {"text": text.read().strip()})
        else:
            yield from _cut_at_marks(path, text) if separated else _cut_at_blanks(path, text)


def _cut_at_blanks(path: Path, lines: Iterable[str]) -> Iterator[Record]:
    piece: list[str] = []
    first = 1
    for number, line in enumerate(chain(lines, [""]), start=1):
        if line.strip():
            first = first if piece else number
            piece.append(line)
        elif piece:
            yield Record(f"{path}:{first}", {"text": "".join(piece).strip()})
            piece = []


def _cut_at_marks(path: Path, lines: Iterable[str]) -> Iterator[Record]:
    piece: list[str] = []
    first = 0
    for number, line in enumerate(chain(lines, [END_OF_TEXT]), start=1):
        for part in re.split(f"({re.escape(END_OF_TEXT)})", line):
            if part == END_OF_TEXT:
                if first:
                    yield Record(f"{path}:{first}", {"text": "".join(piece).strip()})
                piece, first = [], 0
            else:
                piece.append(part)
                first = first or (number if part.strip() else 0)
