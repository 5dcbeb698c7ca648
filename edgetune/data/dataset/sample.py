"""How many rows a recipe has, and some of them, without reading all of large files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from transformers import PreTrainedTokenizerBase

from edgetune.data.dataset.make import SMALL_BYTES, load_splits, source_bytes
from edgetune.data.load import LeftOut, PartReader
from edgetune.data.reading import Reading, read_parts
from edgetune.data.rows import Row
from edgetune.data.sources import Source, find_sources
from edgetune.log import Log
from edgetune.recipe import NO_CLEANING, DataSection


@dataclass(frozen=True)
class Sample:
    """Some train rows, and about how many rows train and validate."""

    rows: Sequence[Row]
    train: int
    validation: int


def sample_rows(
    section: DataSection, tokenizer: PreTrainedTokenizerBase, seed: int, count: int,
    objective: str = "sft",
) -> Sample:  # fmt: skip
    """Return so many train rows, evenly from small sources, from the beginning of large ones.

    Sources of more than 20 MB are not read whole: their rows are counted by their bytes.

    Raises:
        InputError: rows that cannot be read.
    """
    section = section.model_copy(update={"clean": NO_CLEANING, "canary": None})
    sources = find_sources(section)
    if sum(map(source_bytes, sources.values())) < SMALL_BYTES:
        splits = load_splits(section, seed, Log(quiet=True), tokenizer, objective)
        some = splits.train[:: max(1, len(splits.train) // count)][:count]
        return Sample(some, len(splits.train), len(splits.validation))
    reading = Reading(section, seed, tokenizer, objective=objective)
    found = {name: _sample(source, reading, count) for name, source in sources.items()}
    rows, train = found["train"]
    if "validation" in found:
        validation = found["validation"][1]
    else:
        validation = max(1, round(train * section.validation_fraction))
        train -= validation
    return Sample(rows, min(train, section.limit or train), validation)


def _sample(source: Source, reading: Reading, count: int) -> tuple[list[Row], int]:
    """Return the first rows of each of a split's sources, and about how many there are."""
    rows: list[Row] = []
    total = 0.0
    for (named, records), (_, own) in zip(read_parts(source, reading), source.named, strict=True):
        reader = PartReader(named, records, reading.section.on_bad_row, reading.objective)
        seen = list(islice(reader.records, count))
        some = [row for row in reader.read(seen) if not isinstance(row, LeftOut)]
        written = sum(len(json.dumps(one.value, default=str)) + 1 for one in seen)
        ratio = max(1.0, source_bytes(own) / max(written, 1)) if len(seen) == count else 1.0
        kept = ratio * len(some)
        total += min(kept, named.source.limit or kept) * named.source.weight
        rows += some
    return rows[:: max(1, len(rows) // count)][:count], round(total)
