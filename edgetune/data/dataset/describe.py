"""What is told of a dataset: its facts, and lines for the person who waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgetune.data.dataset.read import SplitReader
from edgetune.data.dataset.select import Columns, count_duplicates
from edgetune.data.dataset.shard import Shard
from edgetune.data.dataset.splits import SPLITS
from edgetune.data.hub_rows import find_commit
from edgetune.data.load import Found, LeftOutCounts, tell_source
from edgetune.log import Log


def describe_dataset(
    readers: Mapping[str, SplitReader], shards: Mapping[str, Sequence[Shard]], columns: Columns,
    chosen: Mapping[str, np.ndarray],
) -> dict[str, Any]:  # fmt: skip
    """Return the facts of a dataset, as :class:`~edgetune.data.dataset.splits.Splits` has them.

    Args:
        readers: of the splits that have sources.
        shards: of the same splits.
        columns: of all rows.
        chosen: the rows of each split.
    """
    prompts = {name: columns.prompt[numbers] for name, numbers in chosen.items()}
    prompts.setdefault("test", prompts["validation"])
    counts = {name: _count(some) for name, some in shards.items()}
    train = readers["train"].parts
    objectives = [part.named.shape.objectives for part in train]
    every = [shard for some in shards.values() for shard in some]
    return {
        "format": ", ".join(dict.fromkeys(part.named.shape.format for part in train)),
        "objectives": [name for name in objectives[0] if all(name in one for one in objectives)],
        "rows": {name: len(prompts[name]) for name in SPLITS},
        "sources": _origins(readers),
        "provenance": list(_provenance(readers, columns)),
        "skipped": {name: one.bad.total() for name, one in counts.items()},
        "skipped_reasons": {name: dict(one.bad.most_common(20)) for name, one in counts.items()},
        "skipped_examples": [
            one.first[reason] for one in counts.values() for reason in list(one.bad)[:3]
        ],
        "not_used": {name: dict(one.unused) for name, one in counts.items()},
        "columns_unused": _unused(readers["train"], shards["train"]),
        "parts_unused": list(readers["train"].source.unused),
        "duplicates": count_duplicates(prompts),
        "left_out": _count_steps(every),
        "encoder": every[0].encoder,
    }


def tell_split(split: str, reader: SplitReader, shards: Sequence[Shard], log: Log) -> None:
    """Say what a split's sources hold, and warn of malformed records.

    Raises:
        InputError: they hold no row.
    """
    rows = sum(len(shard) for shard in shards)
    shapes = [part.named.shape for part in reader.parts]
    unused = _unused(reader, shards)
    tell_source(reader.source, split, Found(rows, shapes, unused, _count(shards)), log)


def warn_of_shared(facts: Mapping[str, Any], has_test: bool, log: Log) -> None:
    """Warn of validation and test prompts that occur in train."""
    for name in ("validation", "test") if has_test else ("validation",):
        if shared := facts["duplicates"][f"{name}_in_train"]:
            log.warn(
                f"{shared} of {facts['rows'][name]} {name} prompts also occur in train; "
                f"the {name} score is optimistic"
            )


def _origins(readers: Mapping[str, SplitReader]) -> dict[str, str]:
    """Return where each split's rows come from, in words."""
    origins = {name: str(reader.source) for name, reader in readers.items()}
    origins.setdefault("validation", "split from train by the seed")
    origins.setdefault("test", "the validation rows")
    return origins


def _provenance(readers: Mapping[str, SplitReader], columns: Columns) -> Iterator[dict[str, Any]]:
    """Yield what is known of each named source, without the defaults."""
    for at, (split, reader) in enumerate(readers.items()):
        sizes = np.bincount(columns.part[columns.origin == at], minlength=len(reader.parts))
        for part, rows in zip(reader.parts, sizes.tolist(), strict=True):
            named = part.named
            source = named.source
            stated = find_commit(source).license if named.commit else None
            known = {
                "license": source.license or stated,
                "revision": named.commit,
                "origin": source.origin,
                "confidential": source.confidential or None,
                "weight": source.weight if source.weight != 1 else None,
                "limit": source.limit,
            }
            yield {
                "split": split,
                "path": source.path,
                "format": part.named.shape.format,
                "rows": rows,
                **{key: value for key, value in known.items() if value is not None},
            }


def _unused(reader: SplitReader, shards: Sequence[Shard]) -> list[str]:
    """Return the keys of records that are not read."""
    keys: dict[str, None] = {}
    for shard in shards:
        keys.update(dict.fromkeys(reader.parts[shard.part].unused(shard.keys)))
    return list(keys)


def _count(shards: Iterable[Shard]) -> LeftOutCounts:
    counts = LeftOutCounts()
    for shard in shards:
        counts.add(shard.counts)
    return counts


def _count_steps(shards: Iterable[Shard]) -> dict[str, dict[str, int]]:
    """Return how many rows were left out or changed, by step and reason."""
    counts: dict[str, Counter[str]] = {}
    for shard in shards:
        for step, reasons in shard.left_out.items():
            counts.setdefault(step, Counter()).update(reasons)
    return {step: dict(reasons.most_common(20)) for step, reasons in counts.items()}
