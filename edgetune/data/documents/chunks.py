"""Long texts to chunks of tokens: cut at headings, pages and sentences, with an overlap."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgetune.data.documents.library import need
from edgetune.data.documents.read import PAGE
from edgetune.data.records import Record
from edgetune.recipe import ChunkSection

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_HEADING = re.compile(r"^(#{1,6})[ \t]+(.*?)[ \t#]*$")
_FENCE = re.compile(r"^ {0,3}(```|~~~)")
_JOINT = "\n\n"
_CACHED_COUNTS = 4096  # texts whose tokens semchunk counts again and again while it searches


@dataclass(frozen=True)
class Passage:
    """A part of a document between two headings or page breaks.

    Attributes:
        text: with its heading.
        headings: titles of the sections it lies in, the outermost first.
        page: number of a PDF's page, or none.
    """

    text: str
    headings: tuple[str, ...] = ()
    page: int | None = None

    @property
    def place(self) -> str:
        """Where in its document it is, in words."""
        if self.page is not None:
            return f", page {self.page}"
        return f" § {' > '.join(self.headings)}" if self.headings else ""


def chunk_records(
    records: Iterable[Record], tokenizer: PreTrainedTokenizerBase, section: ChunkSection
) -> Iterator[Record]:
    """Yield each record of a text as chunks of at most ``section.tokens`` tokens.

    Passages between headings and pages stay whole where they fit, and short ones share a chunk. A
    longer one is cut at the ends of paragraphs, sentences or words, each chunk repeating the last
    ``section.overlap`` tokens of the one before (semchunk). Chunks have a key ``document``, where
    their text is from, and those below headings a key ``heading``. Records of other keys stay as
    they are.

    Raises:
        InputError: semchunk is not installed.
    """
    count = _counter(tokenizer)
    joint = count(_JOINT)
    chunker = need("semchunk", "data.chunk").chunkerify(
        count, section.tokens, cache_maxsize=_CACHED_COUNTS
    )
    for record in records:
        text = (record.value or {}).get("text")
        if not isinstance(text, str):
            yield record
            continue
        fitting: list[Passage] = []
        filled = 0
        for passage in split_passages(text):
            size = count(passage.text)
            if fitting and filled + joint + size > section.tokens:
                yield _join(record, fitting)
                fitting, filled = [], 0
            if size > section.tokens:
                yield from _cut(record, passage, chunker, section.overlap)
            else:
                filled += size + (joint if fitting else 0)
                fitting.append(passage)
        if fitting:
            yield _join(record, fitting)


def split_passages(text: str) -> list[Passage]:
    """Split a text at Markdown headings (not those in code) and at form feeds between pages."""
    if PAGE in text:
        pages = enumerate(text.split(PAGE), start=1)
        return [Passage(page.strip(), (), number) for number, page in pages if page.strip()]
    found: list[Passage] = []
    titles: list[tuple[int, str]] = []
    lines: list[str] = []
    fence = ""

    def close() -> None:
        if any(line.strip() for line in lines):
            found.append(Passage("\n".join(lines).strip(), tuple(title for _, title in titles)))
        lines.clear()

    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if mark:
            fence = "" if fence == mark[1] else fence or mark[1]
        heading = None if fence else _HEADING.match(line)
        if heading:
            close()
            level = len(heading[1])
            titles[:] = [one for one in titles if one[0] < level] + [(level, heading[2])]
        lines.append(line)
    close()
    return found


def _counter(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], int]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return lambda text: len(backend.encode(text, add_special_tokens=False).ids)
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False, verbose=False))


def _join(record: Record, passages: list[Passage]) -> Record:
    return _chunk(record, _JOINT.join(one.text for one in passages), passages[0], "")


def _cut(
    record: Record, passage: Passage, chunker: Callable[..., list[str]], overlap: int
) -> Iterator[Record]:
    chunks = [one.strip() for one in chunker(passage.text, overlap=overlap or None)]
    for number, text in enumerate(filter(None, chunks), start=1):
        yield _chunk(record, text, passage, f", chunk {number}")


def _chunk(record: Record, text: str, passage: Passage, number: str) -> Record:
    value = {"document": record.where, **(record.value or {}), "text": text}
    if passage.headings:
        value["heading"] = " > ".join(passage.headings)
    return replace(record, where=f"{record.where}{passage.place}{number}", value=value)
