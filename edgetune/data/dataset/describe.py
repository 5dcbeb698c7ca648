"""What is told of a dataset: its facts, and lines for the person who waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgetune.data.dataset.columns import Columns
from edgetune.data.dataset.read import SplitReader
from edgetune.data.dataset.select import Selection, count_duplicates
from edgetune.data.dataset.shard import Shard
from edgetune.data.dataset.splits import SPLITS
from edgetune.data.hub_rows import find_commit
from edgetune.data.load import Found, LeftOutCounts, tell_source
from edgetune.log import Log, counted
from edgetune.recipe import DataSection


def describe_dataset(
    readers: Mapping[str, SplitReader], shards: Mapping[str, Sequence[Shard]], columns: Columns,
    selection: Selection,
) -> dict[str, Any]:  # fmt: skip
    """Return the facts of a dataset, as :class:`~edgetune.data.dataset.splits.Splits` has them.

    Args:
        readers: of the splits that have sources.
        shards: of the same splits.
        columns: of all rows.
        selection: the rows of each split.
    """
    prompts = {name: columns.prompt[numbers] for name, numbers in selection.rows.items()}
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
        "left_out": _count_steps(every, selection),
        "found": _count_found(every),
        "similar": selection.facts,
        "encoder": every[0].encoder,
    }


def warn_of_overlap(readers: Mapping[str, SplitReader], section: DataSection, log: Log) -> None:
    """Warn where chunks that share tokens may be split into train and validation."""
    texts = any(part.named.shape.format == "text" for part in readers["train"].parts)
    overlap = section.chunk.overlap if section.chunk is not None else 0
    if texts and overlap and "validation" not in readers and section.split.group_by == "prompt":
        log.warn(
            f"chunks repeat {overlap} tokens of the one before, and validation is split from the "
            "same documents: its loss is optimistic; data.split: {group_by: document} keeps each "
            "document's chunks together"
        )


def tell_split(split: str, reader: SplitReader, shards: Sequence[Shard], log: Log) -> None:
    """Say what a split's sources hold, and warn of malformed records.

    Raises:
        InputError: they hold no row.
    """
    rows = sum(len(shard) for shard in shards)
    shapes = [part.named.shape for part in reader.parts]
    unused = _unused(reader, shards)
    tell_source(reader.source, split, Found(rows, shapes, unused, _count(shards)), log)


def tell_cleaning(facts: Mapping[str, Any], section: DataSection, log: Log) -> None:
    """Say what cleaning found and did; warn of what it only reports."""
    for step, reasons in facts["found"].items():
        for reason, actions in reasons.items():
            for action, count in actions.items():
                text = f"{step}: {counted(count, 'row')} ({reason})"
                if action == "reported":
                    log.warn(f"{text}, left as they are; data.clean.{step}: fix changes that")
                else:
                    log.say(f"{text} {action}")
    similar, mode = facts["similar"], section.clean
    for step, word in (("duplicates", "equal"), ("near_duplicates", "similar")):
        if count := similar.get(step, {}).get("rows"):
            text = f"{step}: {counted(count, 'train row')} {word} to one before"
            _tell_step(log, step, text, getattr(mode, step))
    for step in ("max_per_label", "max_per_cluster"):
        if count := similar.get(step, {}).get("rows"):
            log.say(f"{step}: {counted(count, 'train row')} left out")
    if count := similar.get("labels", {}).get("rows"):
        log.warn(f"labels: {counted(count, 'train row')} with a label that its text speaks against")
    _tell_leaks(facts, mode.leakage, log)


def _tell_step(log: Log, step: str, text: str, mode: str) -> None:
    if mode == "fix":
        log.say(f"{text}, left out")
    else:
        log.warn(f"{text}; data.clean.{step}: fix leaves them out")


def _tell_leaks(facts: Mapping[str, Any], mode: str, log: Log) -> None:
    """Warn of held-out prompts that occur in train, or resemble some."""
    leaks = facts["similar"].get("leakage", {})
    if mode == "fix":
        if count := leaks["train_rows"]:
            log.say(f"leakage: {counted(count, 'train row')} like held-out rows, left out")
        return
    for name in ("validation", "test"):
        shared = facts["duplicates"][f"{name}_in_train"]
        like = leaks.get(f"{name}_rows", shared)
        if like:
            also = f", and {like - shared} more resemble train prompts" if like > shared else ""
            log.warn(
                f"{shared} of {facts['rows'][name]} {name} prompts also occur in train{also}; "
                f"the {name} score is optimistic (data.clean.leakage: fix)"
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


def _count_found(shards: Iterable[Shard]) -> dict[str, dict[str, dict[str, int]]]:
    """Return what cleaning found in rows: by step and reason, how many rows became what."""
    counts: dict[str, dict[str, Counter[str]]] = {}
    for shard in shards:
        for step, reason, action, count in shard.found:
            counts.setdefault(step, {}).setdefault(reason, Counter())[action] += count
    return {
        step: {reason: dict(actions) for reason, actions in reasons.items()}
        for step, reasons in counts.items()
    }


def _count_steps(shards: Iterable[Shard], selection: Selection) -> dict[str, dict[str, int]]:
    """Return how many rows were left out or changed, by step and reason."""
    counts: dict[str, Counter[str]] = {}
    for shard in shards:
        for step, reasons in shard.left_out.items():
            counts.setdefault(step, Counter()).update(reasons)
    for left_out in selection.left_out:
        counts.setdefault(left_out.step, Counter())[left_out.reason] += len(left_out.rows)
    return {step: dict(reasons.most_common(20)) for step, reasons in counts.items()}
