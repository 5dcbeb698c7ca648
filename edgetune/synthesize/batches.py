"""Finished batches on disk: what a killed process goes on from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgetune.disk import write_atomic
from edgetune.synthesize.draft import Draft
from edgetune.synthesize.teacher import Usage


@dataclass(frozen=True)
class Batch:
    """Drafts with the reason why each was rejected (empty: accepted), and what they took."""

    drafts: list[Draft]
    reasons: list[str]
    usage: Usage
    seconds: float

    @property
    def accepted(self) -> list[Draft]:
        """The drafts that no validator rejected."""
        return [d for d, reason in zip(self.drafts, self.reasons, strict=True) if not reason]


class BatchStore:
    """Batches by number, each in a file that is there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, size: int) -> list[Batch]:
        """Return the batches that are finished, from the first on; ``size``: how many there are."""
        found = []
        for number in range(size):
            path = self._path(number)
            if not path.is_file():
                break
            value = json.loads(path.read_text(encoding="utf-8"))
            drafts = [Draft.of(one) for one in value["drafts"]]
            found.append(Batch(drafts, value["reasons"], Usage(**value["usage"]), value["seconds"]))
        return found

    def write(self, number: int, batch: Batch) -> None:
        """Keep a finished batch."""
        value = {
            "drafts": [draft.as_value() for draft in batch.drafts],
            "reasons": batch.reasons,
            "usage": vars(batch.usage),
            "seconds": batch.seconds,
        }
        write_atomic(self._path(number), json.dumps(value, ensure_ascii=False))

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.json"


def total_usage(batches: Sequence[Batch]) -> Usage:
    """Return what all batches took."""
    found = Usage()
    for batch in batches:
        found.add(batch.usage)
    return found
