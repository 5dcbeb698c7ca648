"""Sources to shards of rows: read in order, a shard in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any

from edgetune.data.dataset.shard import SHARD_RECORDS, Dropped, ShardRows
from edgetune.data.load import LeftOut, PartReader, count_left_out
from edgetune.data.reading import Reading, read_parts
from edgetune.data.records import Record
from edgetune.data.shapes import SHAPES, Chosen
from edgetune.data.sources import Source
from edgetune.errors import InputError, nearest


class SplitReader:
    """Reads the sources of one split.

    Attributes:
        source: all of them.
        parts: a reader of each that was opened so far.
    """

    def __init__(self, source: Source, reading: Reading, split: str) -> None:
        self.source = source
        self.parts: list[PartReader] = []
        self._reading, self._split = reading, split
        group = reading.section.split.group_by
        self._group = None if group in ("prompt", "cluster") or split != "train" else group

    def read_shards(self, is_done: Callable[[int], bool]) -> Iterator[tuple[int, ShardRows | None]]:
        """Yield each shard's number and rows; ``None`` for one that an interrupted call finished.

        A shard has the rows of one source.

        Raises:
            InputError: an unreadable source or one of no known shape, rows that nothing can be
                tuned on, or a malformed row (unless they are skipped).
        """
        number = 0
        for named, records in read_parts(self.source, self._reading):
            part = PartReader(
                named, records, self._reading.section.on_bad_row, self._reading.objective
            )
            where = f"data.{self._split}: {part.named.source.path}"
            check_objective(part.named.shape, self._reading.objective, where)
            self.parts.append(part)
            while (first := next(part.records, None)) is not None:
                rest = islice(part.records, SHARD_RECORDS - 1)
                if is_done(number):
                    for _ in rest:
                        pass
                    yield number, None
                else:
                    shard = ShardRows([], part=len(self.parts) - 1)
                    _fill(shard, part, chain([first], rest), self._group)
                    yield number, shard
                number += 1


def check_objective(shape: Chosen, objective: str, where: str) -> None:
    """Refuse rows of a shape that an objective cannot be trained on.

    Raises:
        InputError: names what the shape is for, and the shapes that the objective takes.
    """
    wanted = {"sft", "text"} if objective == "sft" else {objective}
    if wanted & set(shape.objectives):
        return
    fits = ", ".join(shape.objectives)
    if objective == "sft":
        raise InputError(
            "these rows are prompts without answers: tuning has nothing to train "
            f"({shape.format} is for {fits})",
            where=where,
            hint="name them as distill.prompts, and the teacher answers them",
        )
    others = (name for name, one in SHAPES.items() if objective in one.objectives)
    raise InputError(
        f"the objective {objective} cannot be trained on rows of the shape {shape.format}, "
        f"which is for {fits}",
        where=where,
        hint=f"{objective} takes rows of the shape {' or '.join(others)}: see docs/rows.md",
    )


def _fill(shard: ShardRows, part: PartReader, records: Iterator[Record], group: str | None) -> None:
    """Read records into a shard, with the values of the column that splits rows."""
    part.keys.clear()
    left_out: list[LeftOut] = []
    value: dict[str, Any] = {}

    def look() -> Iterator[Record]:
        nonlocal value
        for record in records:
            value = record.value or {}
            yield record

    for found in part.read(look()):
        if isinstance(found, LeftOut):
            left_out.append(found)
            shard.dropped.append(Dropped(found.where, found.step, found.reason, row=found.value))
            continue
        shard.rows.append(found)
        if group is not None:
            if group not in value:
                raise InputError(
                    f"no column '{group}'{nearest(group, map(str, value))}",
                    where=f"data.split.group_by: {found.where}",
                )
            shard.groups.append(str(value[group]))
    shard.keys, shard.examples = list(part.keys), count_left_out(left_out).first
