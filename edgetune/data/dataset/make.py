"""Make the dataset of a recipe: shards of rows, the choice of each split, the final files."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgetune.data.canary import make_canaries
from edgetune.data.dataset.columns import Columns
from edgetune.data.dataset.describe import (
    describe_dataset,
    tell_cleaning,
    tell_split,
    warn_of_overlap,
)
from edgetune.data.dataset.pool import Pool, count_processes
from edgetune.data.dataset.read import SplitReader
from edgetune.data.dataset.select import select_splits
from edgetune.data.dataset.settings import Settings
from edgetune.data.dataset.shard import Shard, ShardRows
from edgetune.data.dataset.shard_writer import write_shard
from edgetune.data.dataset.similar import SimilarRows
from edgetune.data.dataset.splits import FACTS, Splits
from edgetune.data.dataset.suspicious import list_suspicious
from edgetune.data.dataset.write import write_splits
from edgetune.data.reading import Reading
from edgetune.data.sources import Source, find_sources
from edgetune.disk import write_atomic
from edgetune.log import Log
from edgetune.recipe import NO_CLEANING, DataSection

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Smaller sources are read in this process: others take seconds to load a tokenizer.
SMALL_BYTES = 20_000_000
_TELL_SECONDS = 10


def make_dataset(settings: Settings, out: Path, scratch: Path, log: Log) -> Splits:
    """Read, encode and split the rows of a recipe, going on from the shards of an earlier call.

    The bytes depend on sources and recipe alone: neither on the number of processes nor on
    interruptions.

    Args:
        settings: what it is made of.
        out: folder of the dataset.
        scratch: folder of the shards.
        log: what was found is told, and every ten seconds how many rows are read.

    Raises:
        InputError: an unreadable source, an unknown shape, a malformed row (unless they are
            skipped), or no rows at all.
    """
    began = time.monotonic()
    section = settings.section
    sources = find_sources(section)
    tokenizer = settings.load_tokenizer() if section.chunk is not None else None
    reading = Reading(section, settings.seed, tokenizer, objective=settings.objective)
    readers = {name: SplitReader(source, reading, name) for name, source in sources.items()}
    small = sum(source_bytes(source) for source in sources.values()) < SMALL_BYTES
    by_split = _make_shards(settings, readers, scratch, small, log)
    for name, reader in readers.items():
        tell_split(name, reader, by_split[name], log)
    numbered = [(at, one) for at, some in enumerate(by_split.values()) for one in some]
    if section.canary is not None:
        plain = readers["train"].parts[0].named.shape.format == "text"
        numbered.append((len(by_split), _plant(settings, plain, scratch)))
    shards = [shard for _, shard in numbered]
    columns = Columns.of(numbered)
    named = {name: [part.named.source for part in reader.parts] for name, reader in readers.items()}
    similar = SimilarRows(columns, shards, scratch, section.clean.similarity)
    selection = select_splits(columns, named, section, settings.seed, similar)
    if section.clean.labels != "off" and _is_classification(readers["train"]):
        selection.facts["labels"] = list_suspicious(
            columns, shards, selection.rows["train"], settings.seed, out
        )
    facts = describe_dataset(readers, by_split, columns, selection)
    tell_cleaning(facts, section, log)
    warn_of_overlap(readers, section, log)
    facts["tokens"] = write_splits(settings, columns, shards, selection, out, log)
    write_atomic(out / FACTS, json.dumps(facts, indent=1, ensure_ascii=False))
    seconds = time.monotonic() - began
    log.event("data", **facts, seconds=seconds, rows_per_s=len(columns.row) / max(seconds, 1e-9))
    return Splits(out, facts)


def _make_shards(
    settings: Settings, readers: Mapping[str, SplitReader], scratch: Path, small: bool, log: Log
) -> dict[str, list[Shard]]:
    """Make what is missing of the shards, in this process where sources are small."""
    folders: dict[str, list[Path]] = {name: [] for name in readers}

    def tasks() -> Iterator[tuple[Path, ShardRows | None]]:
        for name, reader in readers.items():
            for number, shard in reader.read_shards(lambda n: _folder(scratch, name, n).is_dir()):  # noqa: B023
                folder = _folder(scratch, name, number)
                folders[name].append(folder)
                yield folder, shard

    scratch.mkdir(parents=True, exist_ok=True)
    if small:
        encoder = settings.make_encoder()
        for folder, shard in tasks():
            if shard is not None:
                write_shard(folder, shard, settings.section, encoder)
    else:
        _make_in_processes(settings, tasks(), scratch, log)
    return {name: [Shard(folder) for folder in some] for name, some in folders.items()}


def _make_in_processes(
    settings: Settings, tasks: Iterable[tuple[Path, ShardRows | None]], scratch: Path, log: Log
) -> None:
    began = told = time.monotonic()
    rows = 0
    with (
        (scratch / "processes.log").open("wb+") as errors,
        Pool(settings.section, settings.encoding, count_processes(), errors) as pool,
    ):
        for folder, shard in tasks:
            if shard is not None:
                pool.submit(folder, shard)
                rows += len(shard.rows)
            now = time.monotonic()
            if now - told > _TELL_SECONDS:
                log.say(f"{rows:,} rows, {rows / (now - began):,.0f} rows/s")
                told = now
        pool.finish()


def _is_classification(reader: SplitReader) -> bool:
    return all(part.named.shape.format == "classification" for part in reader.parts)


def _plant(settings: Settings, plain: bool, scratch: Path) -> Shard:
    """Make the shard of the canaries, which no step of cleaning sees."""
    folder = scratch / "canaries"
    section = settings.section.model_copy(update={"clean": NO_CLEANING})
    assert section.canary is not None
    rows = [rows[0] for rows in make_canaries(section.canary, settings.seed, plain)]
    if not folder.is_dir():
        write_shard(folder, ShardRows(rows), section, settings.make_encoder())
    return Shard(folder)


def source_bytes(source: Source) -> int:
    """Return the bytes of a source's files."""
    paths = {piece.path for piece in source.pieces}
    files = (file for path in paths for file in ([path] if path.is_file() else path.rglob("*")))
    return sum(file.stat().st_size for file in files if file.is_file())


def _folder(scratch: Path, split: str, number: int) -> Path:
    return scratch / f"{split}-{number:06d}"


def load_splits(
    section: DataSection, seed: int, log: Log, tokenizer: PreTrainedTokenizerBase | None = None,
    objective: str = "sft",
) -> Splits:  # fmt: skip
    """Return the rows of a recipe without their tokens, from files that go when they are let go.

    Without a tokenizer, texts are not split into chunks.

    Raises:
        InputError: as :func:`make_dataset`.
    """
    with tempfile.TemporaryDirectory(prefix="edgetune-") as folder:
        scratch = Path(folder)
        settings = Settings(section, seed, tokenizer=tokenizer, objective=objective)
        splits = make_dataset(settings, scratch / "dataset", scratch / "s", log)
        splits.map_rows()  # a mapped file is there until it is let go
        return splits
