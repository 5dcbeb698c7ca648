"""Reference log probabilities: what the model said before its first update, kept on disk.

Two numbers a row replace a second model in memory. They are made once by the model itself as the
step begins, in sealed shards: an interrupted pass goes on, and a run with another beta or learning
rate finds them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edgetune import lock
from edgetune.disk import write_atomic
from edgetune.lock import hold
from edgetune.log import Log, counted
from edgetune.train.preference.batches import Scored
from edgetune.train.preference.log_probs import sum_log_probs
from edgetune.train.preference.rows import TokenRows

if TYPE_CHECKING:
    from edgetune.train.tuning_step import Tuning

FOLDER, NAME = "reference-log-probs", "reference.json"
SHARD_TOKENS = 65_536  # what a kill can cost at most
_VERSION = 1
_DIGEST = "sha256"  # of the numbers, in a shard's metadata


@dataclass(frozen=True)
class ReferenceKey:
    """What reference log probabilities depend on.

    Attributes:
        model: hash of the weights and the adapter as the step begins.
        computed: dtype and device of the model.
        rows: hash of the tokens and their order.
    """

    model: str
    computed: str
    rows: str

    @classmethod
    def of(cls, model_key: str, model: Any, rows: TokenRows) -> ReferenceKey:
        """Return the key of a model and rows."""
        return cls(model_key, f"{model.dtype} {model.device.type}", rows.identity)

    @property
    def name(self) -> str:
        """The name of a folder for these."""
        text = json.dumps([_VERSION, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_reference(
    tuning: Tuning, rows: TokenRows, sequences: Callable[[Any], Sequence[Scored]]
) -> np.ndarray:
    """Return :func:`reference_log_probs` of a step's rows, kept beside the step's artifact."""
    key = ReferenceKey.of(tuning.model_key, tuning.model, rows)
    folder = tuning.run.out.parent / FOLDER
    return reference_log_probs(tuning.model, rows, sequences, key, folder, tuning.run.log)


def reference_log_probs(
    model: Any, rows: TokenRows, sequences: Callable[[Any], Sequence[Scored]],
    key: ReferenceKey, folder: Path, log: Log,
) -> np.ndarray:  # fmt: skip
    """Return the log probabilities of each row's sequences, nats, float32 [rows, sequences].

    Args:
        model: as the step begins.
        rows: of :mod:`edgetune.data.preference_tokens`.
        sequences: returns the sequences of a row, of every row as many.
        key: names the folder below ``folder``.
        folder: shared by the runs that may find each other's.
        log: a bar, and whether they were there.
    """
    place = folder / key.name
    lengths = [sum(len(ids) for ids, _ in sequences(row)) for row in rows]
    edges = [*_cut(lengths), len(rows)]
    header = {"version": _VERSION, **asdict(key), "edges": edges}
    if _is_whole(place, header):
        log.say(f"the reference log probabilities are there already ({place})")
        return _read_all(place, edges)
    with hold(place / lock.NAME, "these reference log probabilities", log.say):
        if _read_header(place) != header:
            for shard in place.glob("?????.safetensors"):
                shard.unlink()
            write_atomic(place / NAME, json.dumps(header))
        with log.progress("reference", sum(lengths)) as bar:
            for number, (first, last) in enumerate(pairwise(edges)):
                path = _shard_path(place, number)
                if _read_shard(path) is not None:
                    bar.skip(sum(lengths[first:last]))
                    continue
                some = [one for at in range(first, last) for one in sequences(rows[at])]
                found = sum_log_probs(model, some, bar).reshape(last - first, -1)
                _write_shard(path, found)
    log.say(f"reference log probabilities of {counted(len(rows), 'row')} → {place}")
    return _read_all(place, edges)


def _cut(lengths: Sequence[int]) -> Iterator[int]:
    """Yield the first row of each shard."""
    tokens = SHARD_TOKENS
    for number, length in enumerate(lengths):
        if tokens >= SHARD_TOKENS:
            yield number
            tokens = 0
        tokens += length


def _shard_path(place: Path, number: int) -> Path:
    return place / f"{number:05d}.safetensors"


def _write_shard(path: Path, found: np.ndarray) -> None:
    digest = hashlib.sha256(found.tobytes()).hexdigest()
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(save({"log_probs": found}, {_DIGEST: digest}))
    temporary.replace(path)


def _read_shard(path: Path) -> np.ndarray | None:
    """Return a shard's numbers, or ``None`` where it is absent, torn or changed."""
    try:
        with safe_open(path, "numpy") as file:
            found: np.ndarray = file.get_tensor("log_probs")
            sealed = (file.metadata() or {}).get(_DIGEST)
    except (OSError, SafetensorError):
        return None
    return found if hashlib.sha256(found.tobytes()).hexdigest() == sealed else None


def _read_header(place: Path) -> Any:
    try:
        return json.loads((place / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _is_whole(place: Path, header: dict[str, Any]) -> bool:
    shards = range(len(header["edges"]) - 1)
    return _read_header(place) == header and all(
        _read_shard(_shard_path(place, number)) is not None for number in shards
    )


def _read_all(place: Path, edges: Sequence[int]) -> np.ndarray:
    shards = [_read_shard(_shard_path(place, number)) for number in range(len(edges) - 1)]
    return np.concatenate([shard for shard in shards if shard is not None])
