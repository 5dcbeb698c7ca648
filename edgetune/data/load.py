"""Read the rows of the sources that a recipe names, and say what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgetune.data.encode_rows import OnBadRow
from edgetune.data.reading import NamedPart, Reading, read_parts
from edgetune.data.records import Record
from edgetune.data.rows import Row
from edgetune.data.shapes import Chosen, make_shaped, why_unused
from edgetune.data.sources import Source, open_source
from edgetune.errors import InputError
from edgetune.log import Log, counted
from edgetune.recipe import DataSection

#: Why a record gives no row: it is malformed; or the training has no use for it.
READ, UNUSED = "read", "objective"


@dataclass(frozen=True)
class LeftOut:
    """A record that gives no row.

    Attributes:
        step: :data:`READ` or :data:`UNUSED`.
        where: file and line.
        reason: in words.
        text: the reason with its place and what to do about it.
        value: the record.
    """

    step: str
    where: str
    reason: str
    text: str
    value: Any


class PartReader:
    """Reads one of the sources that a split names, a record at a time.

    Attributes:
        named: the source and its shape.
        records: of the source, which are read once.
        keys: of the records that were read so far.
    """

    def __init__(
        self, named: NamedPart, records: Iterator[Record], on_bad_row: OnBadRow,
        objective: str = "sft",
    ) -> None:  # fmt: skip
        self.named, self.records = named, records
        self._on_bad_row, self._objective = on_bad_row, objective
        self.keys: dict[str, None] = {}

    def read(self, records: Iterable[Record]) -> Iterator[Row | LeftOut]:
        """Yield the row of each record, or why it gives none.

        Raises:
            InputError: a malformed row, unless they are skipped.
        """
        for record in records:
            self.keys.update(dict.fromkeys(map(str, record.value or ())))
            try:
                row = make_shaped(record, self.named.shape)
            except InputError as error:
                if self._on_bad_row == "error":
                    hint = error.hint or "fix the row, or set data.on_bad_row: skip"
                    raise InputError(error.what, where=error.where, hint=hint) from error
                value = record.value or record.fault
                yield LeftOut(READ, record.where, error.what, str(error), value)
                continue
            # Prompts alone of an otherwise answered file are a fault of the row, told elsewhere.
            known = self._objective != "sft" or row.label is not None
            reason = why_unused(row, self._objective) if known else ""
            yield LeftOut(UNUSED, row.where, reason, reason, record.value) if reason else row

    def unused(self, keys: Iterable[str]) -> list[str]:
        """Return those keys that are not read."""
        return [key for key in keys if key not in self.named.shape.used]


@dataclass
class Loaded:
    """The rows of a split's sources, and what was left out on the way."""

    rows: list[Row]
    left_out: list[LeftOut] = field(default_factory=list)


def load_rows(
    source: Source | Path, section: DataSection, log: Log, split: str = "train",
    answered: bool = True,
) -> Loaded:  # fmt: skip
    """Read a split's sources into memory, say their shapes, and refuse or skip malformed rows.

    With ``answered`` false the rows need no last answer; what they have in its place means nothing.

    Raises:
        InputError: an unreadable source, an unknown shape, a malformed row (unless they are
            skipped), or no rows at all.
    """
    if isinstance(source, Path):
        source = open_source(str(source), split)
    loaded = Loaded([])
    readers = []
    reading = Reading(section, answered=answered)
    for named, records in read_parts(source, reading):
        readers.append(reader := PartReader(named, records, section.on_bad_row))
        for row in reader.read(reader.records):
            if isinstance(row, LeftOut):
                loaded.left_out.append(row)
            else:
                loaded.rows.append(row)
    unused = dict.fromkeys(key for reader in readers for key in reader.unused(reader.keys))
    shapes = [reader.named.shape for reader in readers]
    found = Found(len(loaded.rows), shapes, list(unused), count_left_out(loaded.left_out))
    tell_source(source, split, found, log)
    return loaded


@dataclass(frozen=True)
class LeftOutCounts:
    """How many records give no row.

    Attributes:
        bad: malformed ones by reason.
        unused: those that the training has no use for, by reason.
        first: the first of each reason, with its place.
    """

    bad: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, other: LeftOutCounts) -> None:
        """Count what came after."""
        self.bad.update(other.bad)
        self.unused.update(other.unused)
        for reason, text in other.first.items():
            self.first.setdefault(reason, text)


def count_left_out(left_out: Iterable[LeftOut]) -> LeftOutCounts:
    """Count records that give no row, by reason."""
    counts = LeftOutCounts()
    for one in left_out:
        (counts.bad if one.step == READ else counts.unused)[one.reason] += 1
        counts.first.setdefault(one.reason, one.text)
    return counts


@dataclass(frozen=True)
class Found:
    """What a split's sources hold.

    Attributes:
        rows: how many.
        shapes: of each source.
        unused: keys that are not read.
        counts: of records that give no row.
    """

    rows: int
    shapes: Sequence[Chosen]
    unused: Sequence[str]
    counts: LeftOutCounts


def tell_source(source: Source, split: str, found: Found, log: Log) -> None:
    """Say what a split's sources hold, and warn of malformed records.

    Raises:
        InputError: they hold no row.
    """
    counts = found.counts
    if not found.rows:
        raise InputError(
            f"no usable row ({(counts.bad + counts.unused).total()} skipped)",
            where=str(source),
            hint=next(iter(counts.first.values()), "the file holds no rows"),
        )
    said = ", ".join(dict.fromkeys(shape.said for shape in found.shapes))
    text = f"{split}: {counted(found.rows, 'row')} of {_short(source)}, {said}"
    if found.unused:
        text += f"; columns not used: {', '.join(found.unused)}"
    if source.unused:
        text += f"; parts not used: {', '.join(source.unused[:8])}"
    log.say(text)
    for reason, count in counts.bad.most_common():
        bad = counted(count, "bad row")
        log.warn(f"{split}: {bad} skipped ({reason}), the first: {counts.first[reason]}")
    for reason, count in counts.unused.most_common():
        log.say(f"{split}: {counted(count, 'row')} not used: {reason}")


def _short(source: Source) -> str:
    return str(source) if len(source.pieces) > 1 else source.pieces[0].name
