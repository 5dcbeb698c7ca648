"""Read the rows that a recipe names, and say what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgetune.data.hub_rows import find_commit
from edgetune.data.mixing import count_copies
from edgetune.data.reading import NamedPart, Reading, read_parts
from edgetune.data.records import Record
from edgetune.data.rows import Row
from edgetune.data.shapes import make_shaped, why_unused
from edgetune.data.sources import Source, find_sources, open_source
from edgetune.data.split import choose_rows, count_prompts, count_shared, split_validation
from edgetune.errors import InputError
from edgetune.log import Log, counted
from edgetune.recipe import DataSection


@dataclass(frozen=True)
class Splits:
    """The rows of a recipe.

    ``facts`` holds ``format``, ``objectives`` (what the rows can be used for), ``rows`` and
    ``sources`` a split, ``provenance`` (of each named source), ``skipped`` and its reasons,
    ``not_used`` (rows that tuning has no use for, by reason), ``columns_unused``, ``parts_unused``
    and ``duplicates``.
    """

    train: list[Row]
    validation: list[Row]
    test: list[Row]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Part:
    """The rows of one named source among those of a split: numbers ``start`` to ``stop``."""

    named: NamedPart
    start: int
    stop: int


@dataclass
class Loaded:
    """The rows of a split's sources, and what was dropped on the way."""

    rows: list[Row]
    parts: list[Part] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    unused: Counter[str] = field(default_factory=Counter)
    columns_unused: list[str] = field(default_factory=list)

    @property
    def skipped(self) -> int:
        """How many rows were left out."""
        return self.reasons.total()

    @property
    def format(self) -> str:
        """The shape of the rows; the shapes of several sources."""
        return ", ".join(dict.fromkeys(part.named.shape.format for part in self.parts))

    @property
    def objectives(self) -> list[str]:
        """What all of the sources' rows can be used for."""
        every = [part.named.shape.objectives for part in self.parts]
        return [name for name in every[0] if all(name in one for one in every)] if every else []

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
    reading = Reading(section, seed)
    loaded = {name: _load(source, reading, log, name) for name, source in sources.items()}
    for name, one in loaded.items():
        _refuse_unusable(one, name)
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
    rows["train"] = _weigh(rows["train"], loaded["train"], seed)
    rows["train"] = choose_rows(rows["train"], section.limit, seed)
    facts = {
        "format": loaded["train"].format,
        "rows": {name: len(rows[name]) for name in ("train", "validation", "test")},
        "sources": origin,
        "provenance": [fact for name, one in loaded.items() for fact in _tell_sources(name, one)],
        "objectives": loaded["train"].objectives,
        "not_used": {name: dict(one.unused) for name, one in loaded.items()},
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
    return _load(source, Reading(section, answered=answered), log, split)


def _load(source: Source, reading: Reading, log: Log, split: str) -> Loaded:
    loaded = Loaded([])
    columns: dict[str, None] = {}
    for named, records in read_parts(source, reading):
        columns.update(_read_part(loaded, named, records, reading.section.on_bad_row == "error"))
    if not loaded.rows:
        raise InputError(
            f"no usable row ({loaded.skipped + loaded.unused.total()} skipped)",
            where=str(source),
            hint=next(iter((*loaded.first.values(), *loaded.unused)), "the file holds no rows"),
        )
    loaded.columns_unused = list(columns)
    log.say(_describe(source, split, loaded))
    for reason, count in loaded.reasons.most_common():
        bad = counted(count, "bad row")
        log.warn(f"{split}: {bad} skipped ({reason}), the first: {loaded.first[reason]}")
    for reason, count in loaded.unused.most_common():
        log.say(f"{split}: {counted(count, 'row')} not used: {reason}")
    return loaded


def _read_part(
    loaded: Loaded, named: NamedPart, records: Iterator[Record], strict: bool
) -> dict[str, None]:
    """Add the rows of one named source; return the columns that are not read."""
    start = len(loaded.rows)
    keys: dict[str, None] = {}
    for record in records:
        keys.update(dict.fromkeys(record.value or ()))
        try:
            row = make_shaped(record, named.shape)
        except InputError as error:
            if strict:
                hint = error.hint or "fix the row, or set data.on_bad_row: skip"
                raise InputError(error.what, where=error.where, hint=hint) from error
            loaded.skip(error)
            continue
        reason = why_unused(row) if row.label is not None else ""
        if reason:
            loaded.unused[reason] += 1
        else:
            loaded.rows.append(row)
    loaded.parts.append(Part(named, start, len(loaded.rows)))
    return {str(key): None for key in keys if key not in named.shape.used}


def _refuse_unusable(loaded: Loaded, split: str) -> None:
    for part in loaded.parts:
        if not {"sft", "text"} & set(part.named.shape.objectives):
            raise InputError(
                "these rows are prompts without answers: tuning has nothing to train "
                f"({part.named.shape.format} is for {', '.join(part.named.shape.objectives)})",
                where=f"data.{split}: {part.named.source.path}",
                hint="name them as distill.prompts, and the teacher answers them",
            )


def _weigh(rows: list[Row], loaded: Loaded, seed: int) -> list[Row]:
    """Take each train row as often as the weight of its source says."""
    parts = [(n, part) for n, part in enumerate(loaded.parts) if part.named.source.weight != 1]
    copies: dict[int, int] = {}
    for number, part in parts:
        some = {id(row) for row in loaded.rows[part.start : part.stop]}
        kept = [id(row) for row in rows if id(row) in some]
        counts = count_copies(len(kept), part.named.source.weight, seed, number)
        copies.update(zip(kept, map(int, counts), strict=True))
    # A copy is a row of its own: what is made of each row is kept by its identity.
    return [replace(row) if time else row for row in rows for time in range(copies.get(id(row), 1))]


def _tell_sources(split: str, loaded: Loaded) -> Iterator[dict[str, Any]]:
    """Yield what is known of each named source, without the defaults."""
    for part in loaded.parts:
        source = part.named.source
        stated = find_commit(source).license if part.named.commit else None
        known = {
            "license": source.license or stated,
            "revision": part.named.commit,
            "origin": source.origin,
            "confidential": source.confidential or None,
            "weight": source.weight if source.weight != 1 else None,
            "limit": source.limit,
        }
        yield {
            "split": split,
            "path": source.path,
            "format": part.named.shape.format,
            "rows": part.stop - part.start,
            **{key: value for key, value in known.items() if value is not None},
        }


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


def _describe(source: Source, split: str, loaded: Loaded) -> str:
    said = ", ".join(dict.fromkeys(part.named.shape.said for part in loaded.parts))
    text = f"{split}: {counted(len(loaded.rows), 'row')} of {_short(source)}, {said}"
    if loaded.columns_unused:
        text += f"; columns not used: {', '.join(loaded.columns_unused)}"
    if source.unused:
        text += f"; parts not used: {', '.join(source.unused[:8])}"
    return text


def _short(source: Source) -> str:
    return str(source) if len(source.pieces) > 1 else source.pieces[0].name
