"""The teacher's distributions on disk: made once, resumed where a kill left off, shared by runs.

A folder of shards (:mod:`edgetune.distill.cache_shard`) and ``cache.json``, which identifies their
origin: teacher, tokenizer, template, data and settings. A cache of another origin is refused, with
the name of what differs.
"""

from __future__ import annotations

import hashlib
import json
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgetune import lock
from edgetune.data.encoded import Encoded
from edgetune.disk import write_atomic
from edgetune.distill.cache_shard import Layout, Shard, write_shard
from edgetune.distill.sparse_probs import PROB_SCALE, Entries, Target, cut_top_k, draw_sample
from edgetune.distill.teacher import Teacher
from edgetune.errors import InputError
from edgetune.lock import hold
from edgetune.log import Log, bytes_text, clock
from edgetune.models.hardware import require_room

NAME = "cache.json"
SHARD_TOKENS = 131_072  # what a kill can cost at most
PROBE_ROWS = 16  # of which size and time are estimated
_VERSION = 2


@dataclass(frozen=True)
class Settings:
    """How a distribution is kept.

    Attributes:
        kind: ``sample`` or ``top_k``.
        count: draws, or k.
        temperature: of the teacher's softmax.
        seed: of the draws.
    """

    kind: str = "sample"
    count: int = 64
    temperature: float = 1.0
    seed: int = 0

    def layout(self, vocabulary: int) -> Layout:
        """Return how its shards are packed."""
        if self.kind == "top_k":
            return Layout(vocabulary, k=self.count)
        return Layout(vocabulary, draws=self.count)


@dataclass(frozen=True)
class Origin:
    """Hashes of three of the five things; the other two are told from rows and settings."""

    teacher: str
    tokenizer: str
    template: str


class Cache:
    """Reads what :func:`fill_cache` wrote; rows are found by their index.

    Raises:
        InputError: a cache that is unfinished or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        header = _read_header(folder)
        self.settings = Settings(**header["settings"])
        self.vocabulary: int = header["vocabulary"]
        self.positions: int = header["positions"]
        self._firsts: list[int] = header["shards"]
        layout = self.settings.layout(self.vocabulary)
        self._shards = [Shard(_shard_path(folder, n), layout) for n in range(len(self._firsts))]
        self._rows = sum(map(len, self._shards))

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row: int) -> Target:
        number = bisect_right(self._firsts, row) - 1
        entries = self._shards[number][row - self._firsts[number]]
        if self.settings.kind == "sample":
            probs = (entries.counts / self.settings.count).astype(np.float32)
            return Target(entries.lengths, entries.ids, probs, None)
        probs = (entries.counts / PROB_SCALE).astype(np.float32)
        first = np.cumsum(entries.lengths) - entries.lengths
        sums = np.add.reduceat(entries.counts, first) if len(first) else np.zeros(0)
        tail = ((PROB_SCALE - sums) / PROB_SCALE).astype(np.float32)
        return Target(entries.lengths, entries.ids, probs, tail)

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.folder.iterdir())


def fill_cache(
    teacher: Teacher,
    rows: Sequence[Encoded],
    settings: Settings,
    origin: Origin,
    folder: Path,
    log: Log,
) -> Cache:
    """Run the teacher over ``rows`` once and write the cache, continuing where a kill left it.

    Args:
        teacher: who is asked.
        rows: encoded rows; only trained positions are kept.
        settings: how distributions are kept; the seed and a row's number fix its draws, so a
            resumed pass gives the same bytes.
        origin: what teacher, tokenizer and template are.
        folder: where the shards lie.
        log: size and time are told before the work.

    Raises:
        InputError: the folder holds a cache of something else, or the disk is too small.
    """
    firsts = _cut(rows)
    header = {
        "version": _VERSION,
        **asdict(origin),
        "data": hash_rows(rows),
        "settings": asdict(settings),
        "vocabulary": teacher.vocabulary,
        "positions": sum(sum(row.trained[1:]) for row in rows),
        "shards": firsts,
    }
    check_header(folder, header)
    layout = settings.layout(teacher.vocabulary)
    if _find_missing(folder, firsts, layout, log.muted()):
        with hold(folder / lock.NAME, "this teacher's cache", log.say):  # runs may share it
            _fill(teacher, rows, header, settings, folder, log)
    else:
        log.say(f"the teacher's cache is there already ({folder})")
    return Cache(folder)


def _find_missing(folder: Path, firsts: Sequence[int], layout: Layout, log: Log) -> list[int]:
    """Return the numbers of the shards that are still to be written."""
    return [n for n in range(len(firsts)) if not _whole(_shard_path(folder, n), layout, log)]


def _fill(
    teacher: Teacher, rows: Sequence[Encoded], header: dict[str, Any], settings: Settings,
    folder: Path, log: Log,
) -> None:  # fmt: skip
    firsts = header["shards"]
    check_header(folder, header)  # who held the lock before may have written another
    layout = settings.layout(teacher.vocabulary)
    missing = _find_missing(folder, firsts, layout, log)
    write_atomic(folder / NAME, json.dumps(header))
    edges = [*firsts, len(rows)]
    _estimate(teacher, rows, settings, folder, log)
    with log.progress("teacher", sum(len(row.ids) for row in rows)) as bar:
        for number, (first, last) in enumerate(pairwise(edges)):
            if number not in missing:
                bar.skip(sum(len(row.ids) for row in rows[first:last]))
                continue
            kept = keep_rows(teacher, rows[first:last], settings, first, bar)
            write_shard(_shard_path(folder, number), kept, layout)
    cache = Cache(folder)
    each = cache.bytes / max(cache.positions, 1)
    log.say(f"teacher's cache: {bytes_text(cache.bytes)}, {each:.1f} bytes a trained token")


def keep_rows(
    teacher: Teacher, rows: Sequence[Encoded], settings: Settings, first: int, bar: Any = None
) -> list[Entries]:
    """Return what is kept of each row; ``first`` is the number of the first among all rows."""
    found: dict[int, Entries] = {}
    for index, logits_NV in teacher.score(rows):
        probabilities_NV = (logits_NV / settings.temperature).softmax(-1)
        if settings.kind == "top_k":
            found[index] = cut_top_k(probabilities_NV, settings.count)
        else:
            # One generator a row: what is drawn does not depend on how rows were batched.
            generator = torch.Generator(probabilities_NV.device)
            generator.manual_seed(settings.seed * 1_000_003 + first + index)
            found[index] = draw_sample(probabilities_NV, settings.count, generator)
        if bar is not None:
            bar.update(len(rows[index].ids))
    return [found[index] for index in range(len(rows))]


def cache_key(origin: Origin, data: str, settings: Settings, vocabulary: int) -> str:
    """Return the name of the folder for a cache of these five things."""
    text = json.dumps([asdict(origin), data, asdict(settings), vocabulary], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash_rows(rows: Sequence[Encoded]) -> str:
    """Hash the tokens and masks that the cache's positions belong to."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(np.asarray(row.ids, dtype=np.int32).tobytes())
        digest.update(bytes(row.trained))
    return digest.hexdigest()[:32]


def check_header(folder: Path, header: dict[str, Any]) -> None:
    """Refuse a cache made of something else, naming which of the five differs."""
    if not (folder / NAME).exists():
        return
    found = _read_header(folder)
    names = ("teacher", "tokenizer", "template", "data", "settings")
    different = [name for name in names if found.get(name) != header[name]]
    different += ["vocabulary"] if not different and found != header else []
    if different:
        raise InputError(
            f"this cache is of another {', '.join(different)}",
            where=str(folder),
            hint="delete it, or name another folder in distill.cache",
        )


def _read_header(folder: Path) -> dict[str, Any]:
    try:
        header = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if header["version"] != _VERSION:
            raise ValueError(f"its version is {header['version']}, not {_VERSION}")
        return dict(header)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"no readable cache of a teacher: {error}", where=str(folder), hint="delete it"
        ) from error


def _cut(rows: Sequence[Encoded]) -> list[int]:
    """Return the first row of each shard."""
    firsts, tokens = [], SHARD_TOKENS
    for number, row in enumerate(rows):
        if tokens >= SHARD_TOKENS:
            firsts.append(number)
            tokens = 0
        tokens += len(row.ids)
    return firsts


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.safetensors"


def _whole(path: Path, layout: Layout, log: Log) -> bool:
    if not path.exists():
        return False
    try:
        Shard(path, layout)
    except InputError:
        log.warn(f"{path.name} of the teacher's cache is damaged: made again")
        return False
    return True


def _estimate(
    teacher: Teacher, rows: Sequence[Encoded], settings: Settings, folder: Path, log: Log
) -> None:
    """Say size and time, told from a few rows, and refuse a disk without room for it."""
    some = list(rows[:: max(1, len(rows) // PROBE_ROWS)][:PROBE_ROWS])
    began = time.monotonic()
    kept = keep_rows(teacher, some, settings, 0)
    tokens = sum(len(row.ids) for row in some)
    speed = tokens / max(time.monotonic() - began, 1e-6)
    probe = folder / "probe"
    write_shard(probe, kept, settings.layout(teacher.vocabulary))
    held = max(1, sum(len(entries.lengths) for entries in kept))
    each = probe.stat().st_size / held
    probe.unlink()
    positions = sum(sum(row.trained[1:]) for row in rows)
    total = sum(len(row.ids) for row in rows)
    log.say(
        f"teacher's cache: {positions:,} trained tokens, about {each:.0f} bytes each, "
        f"{bytes_text(positions * each)}; {total:,} tokens to read, about "
        f"{clock(total / speed)} at {speed:,.0f} tokens/s → {folder}"
    )
    require_room(folder, int(2 * positions * each), "the teacher's cache")
