"""Read the rows that a recipe names, and say what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgetune.data.files import Record, read_records, saved_splits
from edgetune.data.rows import KEYS, Row, detect_format, fill_answer, make_row
from edgetune.data.split import choose_rows, count_prompts, count_shared, split_validation
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.source import resolve_data
from edgetune.recipe import DataSection


@dataclass(frozen=True)
class Splits:
    """The rows of a recipe.

    ``facts`` holds ``format``, ``rows`` and ``sources`` a split, ``skipped``, ``columns_unused``
    and ``duplicates``.
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
    skipped: list[str] = field(default_factory=list)
    columns_unused: list[str] = field(default_factory=list)


def load_splits(section: DataSection, seed: int, log: Log) -> Splits:
    """Return the rows to train, validate and test on.

    Without a validation source the rows are split from train by the seed; without a test source
    the validation rows are the test rows. A saved DatasetDict brings its own splits.

    Raises:
        InputError: an unreadable source, an unknown shape, a malformed row (unless they are
            skipped), or no rows at all.
    """
    sources = find_sources(section)
    loaded = {name: load_rows(path, section, log, name) for name, path in sources.items()}
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
        "skipped": {name: len(one.skipped) for name, one in loaded.items()},
        "skipped_examples": [fault for one in loaded.values() for fault in one.skipped[:3]],
        "columns_unused": loaded["train"].columns_unused,
        "duplicates": count_duplicates(rows, log),
    }
    log.event("data", **facts)
    return Splits(rows["train"], rows["validation"], rows["test"], facts)


def find_sources(section: DataSection) -> dict[str, Path]:
    """Return the path of each split that has a source of its own."""
    sources = {"train": resolve_data(section.train)}
    for name, value in (("validation", section.validation), ("test", section.test)):
        if value is not None:
            sources[name] = resolve_data(value)
        elif name in saved_splits(sources["train"]):
            sources[name] = sources["train"]
    return sources


def load_rows(
    path: Path, section: DataSection, log: Log, split: str = "train", answered: bool = True
) -> Loaded:
    """Read one source whole, say its shape, and refuse or skip its malformed rows.

    With ``answered`` false the rows need no last answer; what they have in its place means nothing.

    Raises:
        InputError: as :func:`load_splits`.
    """
    records = list(read_records(path, split))
    if not answered:
        answer = section.columns.completion if section.columns else "completion"
        records = [replace(one, value=fill_answer(one.value, answer)) for one in records]
    format, said = choose_format(records, section, path)
    loaded = Loaded([], format)
    for record in records:
        try:
            if record.value is None:
                raise InputError(record.fault, where=record.where)
            loaded.rows.append(make_row(record.value, format, record.where, section.columns))
        except InputError as error:
            if section.on_bad_row == "error":
                hint = error.hint or "mend the row, or set data.on_bad_row: skip"
                raise InputError(error.what, where=error.where, hint=hint) from error
            loaded.skipped.append(str(error))
    if not loaded.rows:
        raise InputError(
            f"no usable row ({len(loaded.skipped)} skipped)",
            where=str(path),
            hint=loaded.skipped[0] if loaded.skipped else "the file holds no rows",
        )
    loaded.columns_unused = _unused(records, format, section)
    log.say(_describe(path, split, said, loaded))
    if loaded.skipped:
        log.warn(f"{len(loaded.skipped)} bad rows skipped, the first: {loaded.skipped[0]}")
    return loaded


def choose_format(records: list[Record], section: DataSection, path: Path) -> tuple[str, str]:
    """Return the format of a row, and how it was found.

    Raises:
        InputError: no known shape fits, or ``columns`` was asked for and not given.
    """
    if section.format == "columns" and section.columns is None:
        raise InputError(
            "format: columns needs the names of the columns",
            where="data.columns",
            hint="columns: {prompt: question, completion: answer}",
        )
    if section.format != "auto":
        return section.format, f"{section.format} (named by the recipe)"
    if section.columns is not None:
        return "columns", f"columns {section.columns.prompt} → {section.columns.completion}"
    votes = Counter(detect_format(r.value) for r in records[:100] if r.value is not None)
    if not votes:
        first = records[0] if records else Record(str(path), None, "the file holds no rows")
        raise InputError(first.fault, where=first.where, hint="no row could be read")
    format = votes.most_common(1)[0][0]
    if format is None:
        keys = next(list(r.value) for r in records if r.value is not None)
        raise InputError(
            f"rows have the keys {', '.join(map(str, keys)) or 'none'}: no shape that is known",
            where=str(path),
            hint="name them: data.columns: {prompt: …, completion: …}",
        )
    return format, f"{format} (detected)"


def count_duplicates(rows: dict[str, list[Row]], log: Log) -> dict[str, int]:
    """Count repeated prompts in train, and judged prompts that were trained on; warn of those."""
    train = rows["train"]
    counts = {"train": len(train) - len(count_prompts(train))}
    for name in ("validation", "test"):
        counts[f"{name}_in_train"] = shared = count_shared(rows[name], train)
        repeated = name == "test" and rows["test"] is rows["validation"]
        if shared and not repeated:
            log.warn(
                f"{shared} of {len(rows[name])} {name} rows ask what a train row asks: "
                "their score is not one on unseen rows"
            )
    return counts


def _unused(records: Iterable[Record], format: str, section: DataSection) -> list[str]:
    if format == "columns":
        names = section.columns
        used = {names.prompt, names.completion, names.system} if names else set()
    else:
        used = set().union(*KEYS[format])
    found = dict.fromkeys(key for r in records if r.value is not None for key in r.value)
    return [str(key) for key in found if key not in used]


def _describe(path: Path, split: str, said: str, loaded: Loaded) -> str:
    unused = f"; columns not used: {', '.join(loaded.columns_unused)}"
    return f"{split}: {len(loaded.rows):,} rows of {path.name}, {said}" + (
        unused if loaded.columns_unused else ""
    )
