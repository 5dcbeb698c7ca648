"""The teacher's distribution at trained positions, kept as an unbiased sparse sample.

A fixed number of tokens is drawn from the teacher's softmax, with replacement, and the unique ids
are kept with their counts (Anshumann et al. 2025, arXiv 2503.16870, section 3: random sampling
knowledge distillation). counts / draws estimates the distribution without bias; a top-k cut does
not.

Layout: one ``.npz`` a shard of rows, written under a temporary name and renamed, so a killed pass
goes on at the first missing shard. ``offsets[position]`` … ``offsets[position + 1]`` index ``ids``
and ``counts``; positions of a row are consecutive, rows start at ``starts``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgetune.artifact import write_atomic
from edgetune.data.encode import Encoded
from edgetune.errors import InputError
from edgetune.log import Log, bytes_text
from edgetune.models.head import head_only_at

SHARD_ROWS = 1024
BATCH_TOKENS = 4096  # of a forward pass of the teacher


@dataclass(frozen=True)
class Target:
    """The sampled distribution at one row's trained positions, in order."""

    offsets: np.ndarray  # [positions + 1]
    ids: np.ndarray  # [entries]
    counts: np.ndarray  # [entries], summing to the draws at each position


class Cache:
    """Reads what :func:`fill_cache` wrote; rows are found by their index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.header: dict[str, Any] = json.loads((folder / "cache.json").read_text())
        self.draws: int = self.header["draws"]
        self._targets: list[Target] = []
        for number in range(self.header["shards"]):
            with np.load(folder / f"{number:05d}.npz", allow_pickle=False) as shard:
                starts, offsets = shard["starts"], shard["offsets"].astype(np.int64)
                ids, counts = shard["ids"], shard["counts"]
            for first, last in pairwise(starts):
                low, high = offsets[first], offsets[last]
                self._targets.append(
                    Target(offsets[first : last + 1] - low, ids[low:high], counts[low:high])
                )

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, row: int) -> Target:
        return self._targets[row]

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        return sum(p.stat().st_size for p in self.folder.iterdir())


def fill_cache(
    teacher: Any, rows: Sequence[Encoded], draws: int, seed: int, folder: Path, log: Log
) -> Cache:
    """Run the teacher over ``rows`` once and write the cache, continuing where a kill left it.

    Args:
        teacher: model in eval mode.
        rows: encoded rows; only trained positions are kept.
        draws: samples a position.
        seed: with the shard's number it fixes the draws, so a resumed pass gives the same bytes.
        folder: where the shards lie.
        log: size and time are told before the work.

    Raises:
        InputError: the folder holds a cache of other rows or draws.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = -(-len(rows) // SHARD_ROWS)
    positions = sum(sum(row.trained) for row in rows)
    header = {"version": 1, "draws": draws, "seed": seed, "shards": shards, "rows": hash_rows(rows)}
    check_header(folder / "cache.json", header)
    # A tuned teacher is sure of most tokens: 1 to 4 unique ids a position, 3 to 5 bytes each.
    log.say(
        f"teacher's cache: {positions:,} positions in {shards} shards, at most "
        f"{bytes_text(positions * (draws * 5 + 4))}, usually a tenth"
    )
    tokens = sum(len(row.ids) for row in rows)
    with log.progress("teacher", tokens) as bar:
        for number in range(shards):
            part = rows[number * SHARD_ROWS : (number + 1) * SHARD_ROWS]
            path = folder / f"{number:05d}.npz"
            if path.exists():
                bar.skip(sum(len(row.ids) for row in part))
                continue
            shard = sample_rows(teacher, part, draws, seed * 1_000_003 + number, bar)
            temporary = path.with_suffix(".tmp")
            with temporary.open("wb") as file:
                np.savez(file, **shard)
            temporary.replace(path)
    write_atomic(folder / "cache.json", json.dumps(header))
    cache = Cache(folder)
    log.say(
        f"cache: {bytes_text(cache.bytes)}, {cache.bytes / max(positions, 1):.1f} bytes a position"
    )
    return cache


def check_header(path: Path, header: dict[str, Any]) -> None:
    """Refuse a cache made of something else, naming what differs."""
    if not path.exists():
        return
    found = json.loads(path.read_text())
    different = [name for name in header if found.get(name) != header[name]]
    if different:
        raise InputError(
            f"this cache is of another {', '.join(different)}", where=str(path), hint="delete it"
        )


def hash_rows(rows: Sequence[Encoded]) -> str:
    """Hash the tokens and masks that the cache's positions belong to."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(np.asarray(row.ids, dtype=np.int32).tobytes())
        digest.update(bytes(row.trained))
    return digest.hexdigest()


@torch.no_grad()
def sample_rows(
    teacher: Any, rows: Sequence[Encoded], draws: int, seed: int, bar: Any
) -> dict[str, np.ndarray]:
    """Return a shard's arrays. Rows of equal length share a forward pass, so nothing is padded."""
    device = next(teacher.parameters()).device
    # One generator a row: what is drawn does not depend on how rows were batched.
    found: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    by_length: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        by_length.setdefault(len(row.ids), []).append(index)
    for length, members in sorted(by_length.items()):
        size = max(1, BATCH_TOKENS // length)
        for start in range(0, len(members), size):
            batch = members[start : start + size]
            ids_BT = torch.tensor([rows[i].ids for i in batch], device=device)
            # The logits at t speak of the token at t + 1.
            asked_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
            asked_BT[:, :-1] = torch.tensor([rows[i].trained[1:] for i in batch], device=device)
            with head_only_at(teacher, asked_BT):
                logits_PV = teacher(input_ids=ids_BT, use_cache=False).logits
            logits_of_rows = logits_PV.split(asked_BT.sum(dim=1).tolist())
            for logits_NV, index in zip(logits_of_rows, batch, strict=True):
                probabilities = logits_NV.float().softmax(-1).cpu()
                generator = torch.Generator().manual_seed(seed * SHARD_ROWS + index)
                found[index] = _draw(probabilities, draws, generator)
            bar.update(length * len(batch))
    parts = [found[i] for i in range(len(rows))]
    positions = np.array([len(offsets) for offsets, _, _ in parts])
    lengths = np.concatenate([offsets for offsets, _, _ in parts]).astype(np.int32)
    return {
        "starts": np.concatenate([[0], positions.cumsum()]).astype(np.int32),
        "offsets": np.concatenate([[0], lengths.cumsum()]).astype(np.int32),
        "ids": np.concatenate([ids for _, ids, _ in parts]),
        "counts": np.concatenate([counts for _, _, counts in parts]),
    }


def _draw(
    probabilities_PV: torch.Tensor, draws: int, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return entries a position [P], and the unique ids and counts of all positions in a row."""
    if not len(probabilities_PV):
        return np.zeros(0, np.int32), np.zeros(0, np.uint32), np.zeros(0, np.uint8)
    drawn_PN = torch.multinomial(probabilities_PV, draws, replacement=True, generator=generator)
    sorted_PN = drawn_PN.sort(dim=1).values.numpy()
    first_PN = np.ones_like(sorted_PN, dtype=bool)
    first_PN[:, 1:] = sorted_PN[:, 1:] != sorted_PN[:, :-1]
    at = np.flatnonzero(first_PN.ravel())
    counts = np.diff(np.append(at, first_PN.size))  # a run ends where the next one starts
    small = probabilities_PV.shape[1] <= 2**16
    ids = sorted_PN.ravel()[at].astype(np.uint16 if small else np.uint32)
    return first_PN.sum(axis=1).astype(np.int32), ids, counts.astype(np.uint8)
