"""Read the rows that a recipe names, and say what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from edgetune.data.files import read_records
from edgetune.data.labels import find_label_columns
from edgetune.data.records import Record
from edgetune.data.rows import KEYS, Row, detect_format, fill_answer, make_row
from edgetune.data.sources import Source, find_sources, open_source
from edgetune.data.split import choose_rows, count_prompts, count_shared, split_validation
from edgetune.errors import InputError
from edgetune.log import Log, counted
from edgetune.recipe import Columns, DataSection


@dataclass(frozen=True)
class Splits:
    """The rows of a recipe.

    ``facts`` holds ``format``, ``rows`` and ``sources`` a split, ``skipped`` and its reasons,
    ``columns_unused``, ``parts_unused`` and ``duplicates``.
    """

    train: list[Row]
    validation: list[Row]
    test: list[Row]
    facts: dict[str, Any]


@dataclass
class Loaded:
    """The rows of one source, and what was dropped on the way."""

    rows: list[Row]
    format: str
    reasons: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    columns_unused: list[str] = field(default_factory=list)

    @property
    def skipped(self) -> int:
        """How many rows were left out."""
        return self.reasons.total()

    def skip(self, error: InputError) -> None:
        """Count a row that is left out, and keep the first of each reason."""
        self.reasons[error.what] += 1
        self.first.setdefault(error.what, str(error))


def load_splits(section: DataSection, seed: int, log: Log) -> Splits:
    """Return the rows to train, validate and test on.

    Without a validation source the rows are split from train by the seed; without a test source
    the validation rows are the test rows. Splits that lie in the train source (a saved DatasetDict,
    keys of a JSON file, names of files in a folder) are taken from there.

    Raises:
        InputError: an unreadable source, an unknown shape, a malformed row (unless they are
            skipped), or no rows at all.
    """
    sources = find_sources(section)
    loaded = {name: load_rows(source, section, log, name) for name, source in sources.items()}
    rows = {name: one.rows for name, one in loaded.items()}
    origin = {name: str(path) for name, path in sources.items()}
    if "validation" not in rows:
        rows["train"], rows["validation"] = split_validation(
            rows["train"], section.validation_fraction, seed
        )
        origin["validation"] = "split from train by the seed"
    if "test" not in rows:
        rows["test"] = rows["validation"]
        origin["test"] = "the validation rows"
    rows["train"] = choose_rows(rows["train"], section.limit, seed)
    facts = {
        "format": loaded["train"].format,
        "rows": {name: len(rows[name]) for name in ("train", "validation", "test")},
        "sources": origin,
        "skipped": {name: one.skipped for name, one in loaded.items()},
        "skipped_reasons": {
            name: dict(one.reasons.most_common(20)) for name, one in loaded.items()
        },
        "skipped_examples": [
            fault for one in loaded.values() for fault in [*one.first.values()][:3]
        ],
        "columns_unused": loaded["train"].columns_unused,
        "parts_unused": list(sources["train"].unused),
        "duplicates": count_duplicates(rows, log),
    }
    log.event("data", **facts)
    return Splits(rows["train"], rows["validation"], rows["test"], facts)


def load_rows(
    source: Source | Path, section: DataSection, log: Log, split: str = "train",
    answered: bool = True,
) -> Loaded:  # fmt: skip
    """Read one source, say its shape, and refuse or skip its malformed rows.

    With ``answered`` false the rows need no last answer; what they have in its place means nothing.

    Raises:
        InputError: as :func:`load_splits`.
    """
    if isinstance(source, Path):
        source = open_source(str(source), split)
    records = _answerable(read_records(source), section, answered)
    head = list(islice(records, 100))
    shape = choose_shape(head, section, source)
    loaded = Loaded([], shape.format)
    keys: dict[str, None] = {}
    for record in chain(head, records):
        keys.update(dict.fromkeys(record.value or ()))
        try:
            if record.value is None:
                raise InputError(record.fault, where=record.where)
            loaded.rows.append(make_row(record.value, shape.format, record.where, shape.columns))
        except InputError as error:
            if section.on_bad_row == "error":
                hint = error.hint or "fix the row, or set data.on_bad_row: skip"
                raise InputError(error.what, where=error.where, hint=hint) from error
            loaded.skip(error)
    if not loaded.rows:
        raise InputError(
            f"no usable row ({loaded.skipped} skipped)",
            where=str(source),
            hint=next(iter(loaded.first.values()), "the file holds no rows"),
        )
    used = shape.used
    loaded.columns_unused = [str(key) for key in keys if key not in used]
    log.say(_describe(source, split, shape.said, loaded))
    for reason, count in loaded.reasons.most_common():
        bad = counted(count, "bad row")
        log.warn(f"{split}: {bad} skipped ({reason}), the first: {loaded.first[reason]}")
    return loaded


def _answerable(
    records: Iterable[Record], section: DataSection, answered: bool
) -> Iterator[Record]:
    completion = section.columns.completion if section.columns else "completion"
    for record in records:
        value = record.value if answered else fill_answer(record.value, completion)
        yield record if answered else replace(record, value=value)


@dataclass(frozen=True)
class Shape:
    """What the rows of a source look like: the format, its columns, and how it was found."""

    format: str
    said: str
    columns: Columns | None = None

    @property
    def used(self) -> set[str | None]:
        """The keys of a row that are read."""
        if self.columns is not None:
            return {self.columns.prompt, self.columns.completion, self.columns.system}
        return set().union(*KEYS[self.format])


def choose_shape(records: list[Record], section: DataSection, source: Source) -> Shape:
    """Return the shape of a source's rows, of the first of them.

    Raises:
        InputError: no known shape fits, or ``columns`` was asked for and not given.
    """
    columns = section.columns
    if section.format == "columns" and columns is None:
        raise InputError(
            "format: columns needs the names of the columns",
            where="data.columns",
            hint="columns: {prompt: question, completion: answer}",
        )
    if section.format == "columns" or (section.format == "auto" and columns is not None):
        assert columns is not None
        return Shape("columns", f"columns {columns.prompt} → {columns.completion}", columns)
    values = [record.value for record in records if record.value is not None]
    if section.format not in ("auto", "classification"):
        return Shape(section.format, f"{section.format} (named by the recipe)")
    votes = Counter(detect_format(value) for value in values)
    if not votes:
        first = records[0] if records else Record(str(source), None, "the file holds no rows")
        raise InputError(first.fault, where=first.where, hint="no row could be read")
    format = votes.most_common(1)[0][0]
    if format in (None, "text") or section.format == "classification":
        found = find_label_columns(values)
        if found is not None:
            return Shape(
                "classification", f"classification, {found.prompt} → {found.completion}", found
            )
    if format is None or section.format == "classification":
        keys = ", ".join(map(str, values[0])) or "none"
        raise InputError(
            f"rows have the keys {keys}: no shape that is known",
            where=str(source),
            hint="name them: data.columns: {prompt: …, completion: …}",
        )
    return Shape(format, f"{format} (detected)")


def count_duplicates(rows: dict[str, list[Row]], log: Log) -> dict[str, int]:
    """Count repeated train prompts, and validation and test prompts in train; warn of those."""
    train = rows["train"]
    counts = {"train": len(train) - len(count_prompts(train))}
    for name in ("validation", "test"):
        counts[f"{name}_in_train"] = shared = count_shared(rows[name], train)
        repeated = name == "test" and rows["test"] is rows["validation"]
        if shared and not repeated:
            log.warn(
                f"{shared} of {len(rows[name])} {name} prompts also occur in train; "
                f"the {name} score is optimistic"
            )
    return counts


def _describe(source: Source, split: str, said: str, loaded: Loaded) -> str:
    text = f"{split}: {counted(len(loaded.rows), 'row')} of {_short(source)}, {said}"
    if loaded.columns_unused:
        text += f"; columns not used: {', '.join(loaded.columns_unused)}"
    if source.unused:
        text += f"; parts not used: {', '.join(source.unused[:8])}"
    return text


def _short(source: Source) -> str:
    if len(source.pieces) > 1:
        return str(source)
    piece = source.pieces[0]
    return f"{piece.path.name}[{piece.key}]" if piece.key else piece.path.name
