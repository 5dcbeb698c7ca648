"""Write accepted rows in messages form, each with its origin, and rejected ones with the reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgetune.data.parts import ROWS
from edgetune.synthesize.batches import Batch
from edgetune.synthesize.draft import Draft

REJECTED = "rejected.jsonl"


def write_rows(batches: Sequence[Batch], origin: Mapping[str, Any], out: Path) -> Counter[str]:
    """Write ``rows.jsonl`` and ``rejected.jsonl``; return how many were rejected for what.

    Args:
        batches: in order.
        origin: what all rows have in common: teacher, task, template.
        out: folder of the artifact.
    """
    counts: Counter[str] = Counter()
    with (
        (out / ROWS).open("w", encoding="utf-8") as rows,
        (out / REJECTED).open("w", encoding="utf-8") as rejected,
    ):
        for batch in batches:
            for draft, reason in zip(batch.drafts, batch.reasons, strict=True):
                value = as_row(draft, origin)
                if reason:
                    counts[reason.partition(": ")[0]] += 1
                    rejected.write(json.dumps({"reason": reason, **value}, ensure_ascii=False))
                    rejected.write("\n")
                else:
                    rows.write(json.dumps(value, ensure_ascii=False) + "\n")
    return counts


def as_row(draft: Draft, origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return a draft as a row that edgetune, TRL and others read."""
    source = {"origin": {**origin, "seed": draft.seed, "number": draft.number}}
    prompt = [message.as_turn() for message in draft.prompt]
    answer = {"role": "assistant", "content": draft.answer}
    if not draft.rejected:
        return {"messages": [*prompt, answer], **source}
    worse = {"role": "assistant", "content": draft.rejected}
    return {"prompt": prompt, "chosen": [answer], "rejected": [worse], **source}
