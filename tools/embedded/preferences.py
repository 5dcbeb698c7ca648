"""Write texts and pairs beside the embedded device rows: ``python -m tools.embedded.preferences``.

Texts are requests without their calls, for continued pre-training. A pair has the right call and
one that differs from it in one value that another request asks for.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgetune.embedded import locate

TEXTS, PAIRS = 3000, 600


def make_texts(rows: Sequence[dict[str, str]]) -> Iterator[dict[str, str]]:
    """Yield requests alone, of the last rows."""
    for row in rows[-TEXTS:]:
        yield {"text": row["prompt"]}


def make_pairs(rows: Sequence[dict[str, str]], seed: int) -> Iterator[dict[str, str]]:
    """Yield a right and a wrong call to each of the first requests."""
    chance = random.Random(seed)
    calls = [json.loads(row["completion"]) for row in rows]
    values: dict[str, list[Any]] = {}
    for call in calls:
        for key, value in call.items():
            values.setdefault(key, []).append(value)
    for row, call in list(zip(rows, calls, strict=True))[:PAIRS]:
        key = chance.choice(sorted(call))
        others = [value for value in values[key] if value != call[key]]
        wrong = {**call, key: chance.choice(others)}
        yield {
            "prompt": row["prompt"], "chosen": row["completion"], "rejected": json.dumps(wrong),
        }  # fmt: skip


def main(folder: Path | None = None) -> None:
    """Write both files."""
    source = locate("devices/train.jsonl")
    folder = folder or source.parent
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    for name, made in (("texts", make_texts(rows)), ("pairs", make_pairs(rows, 0))):
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in made)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
