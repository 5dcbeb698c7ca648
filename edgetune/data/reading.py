"""Records of a split's sources, each with the shape that its own source has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING

from edgetune.data.documents.chunks import chunk_records
from edgetune.data.files import read_records
from edgetune.data.records import Record
from edgetune.data.rows import fill_answer
from edgetune.data.shapes import Chosen, choose_shape
from edgetune.data.sources import Source, narrow
from edgetune.recipe import DataSection, DataSource

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HEAD_RECORDS = 100  # that tell the shape of a source


@dataclass(frozen=True)
class NamedPart:
    """One of the sources that a recipe lists for a split.

    Attributes:
        number: its place in the list.
        source: what the recipe says of it.
        shape: of its rows.
        commit: of a dataset on the hub.
    """

    number: int
    source: DataSource
    shape: Chosen
    commit: str | None


@dataclass(frozen=True)
class Reading:
    """How records are read.

    Attributes:
        section: of the recipe.
        seed: of the rows that limits choose.
        tokenizer: counts the tokens of chunks; ``None`` leaves texts whole.
        answered: whether rows need a last answer; else what they have in its place means nothing.
        objective: what rows are for.
    """

    section: DataSection
    seed: int = 0
    tokenizer: PreTrainedTokenizerBase | None = None
    answered: bool = True
    objective: str = "sft"


def read_parts(source: Source, reading: Reading) -> Iterator[tuple[NamedPart, Iterator[Record]]]:
    """Yield each of the sources that a recipe lists, with its records; read one after the other.

    Raises:
        InputError: an unreadable source, or rows of no known shape.
    """
    for number, (named, pieces) in enumerate(source.named):
        own = narrow(reading.section, named)
        records = _answerable(read_records(pieces, seed=reading.seed), own, reading.answered)
        head = list(islice(records, HEAD_RECORDS))
        shape = choose_shape(head, own, pieces)
        records = chain(head, records)
        if shape.format == "text" and own.chunk is not None and reading.tokenizer is not None:
            records = chunk_records(records, reading.tokenizer, own.chunk)
        yield NamedPart(number, named, shape, pieces.pieces[0].commit), records


def _answerable(
    records: Iterable[Record], section: DataSection, answered: bool
) -> Iterator[Record]:
    completion = section.columns.completion if section.columns else "completion"
    for record in records:
        value = record.value if answered else fill_answer(record.value, completion)
        yield record if answered else replace(record, value=value)
