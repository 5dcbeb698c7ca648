"""The rows of a run: where they come from, what cleaning found, and what was left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgetune.data.hub_rows import PREFIX as HUB_PREFIX
from edgetune.report.run_facts import RunFacts

#: What counts as a leak, wherever leaks are counted.
LEAK = (
    "A leak is a validation or test row whose prompt is also in train, or has a Jaccard "
    "similarity of at least data.clean.similarity with a train prompt."
)


def find_data(facts: RunFacts) -> dict[str, Any] | None:
    """Return the counts of the rows, from ``prepare`` where it ran, else from ``tune``.

    Rows of a confidential source leave no quotation in them.
    """
    if facts.prepare is not None:
        prepared = facts.prepare
        data = {**prepared.data, "tokens": prepared.tokens, "left_out": prepared.left_out}
    elif facts.tune is not None and facts.tune.data is not None:
        data = dict(facts.tune.data)
    else:
        return None
    for step, more in facts.more_rows.items():
        sources = more.data.get("provenance", ())
        data["provenance"] = [
            *data.get("provenance", ()),
            *({**one, "split": f"{one['split']} of {step}"} for one in sources),
        ]
    if any(one.get("confidential") for one in data.get("provenance", ())):
        data["skipped_examples"] = []
    return data


def list_origins(data: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return each source's ``name, split, rows, licence, origin, revision, confidential``.

    A file's name is shown instead of its path, which would tell about the machine.
    """
    return [
        {
            "name": _name(one["path"]),
            "split": one["split"],
            "rows": one["rows"],
            "licence": one.get("license", ""),
            "origin": one.get("origin", ""),
            "revision": one.get("revision", ""),
            "confidential": bool(one.get("confidential")),
        }
        for one in (data or {}).get("provenance", ())
    ]


def list_hub_datasets(data: Mapping[str, Any] | None) -> list[str]:
    """Return the ids of the hub's datasets that the rows come from."""
    paths = [str(one["path"]) for one in (data or {}).get("provenance", ())]
    named = [path.removeprefix(HUB_PREFIX) for path in paths if path.startswith(HUB_PREFIX)]
    return list(dict.fromkeys(named))


def list_cleaning(data: Mapping[str, Any] | None) -> list[tuple[str, str, int, str]]:
    """Return step, what was found, to how many rows or pairs, and what became of them."""
    return [*_found(data or {}), *_similar(data or {})]


def list_left_out(data: Mapping[str, Any] | None) -> list[tuple[str, int]]:
    """Return each step of the preparation that left rows out or changed them, and how many."""
    steps = (data or {}).get("left_out", {})
    return [(step, sum(reasons.values())) for step, reasons in steps.items() if reasons]


def _found(data: Mapping[str, Any]) -> Iterator[tuple[str, str, int, str]]:
    for step, reasons in data.get("found", {}).items():
        for reason, actions in reasons.items():
            for action, count in actions.items():
                done = "left as they are" if action == "reported" else action
                yield step, reason, count, done


def _similar(data: Mapping[str, Any]) -> Iterator[tuple[str, str, int, str]]:
    left_out = data.get("left_out", {})
    for step, counts in data.get("similar", {}).items():
        if step == "labels":
            yield step, "suspicious labels", counts["rows"], "listed"
            continue
        for key, count in counts.items():
            what = "train rows" if key == "rows" else str(key).replace("_", " ")
            trains = what == "train rows" and count
            yield step, what, count, ("left out" if step in left_out else "kept") if trains else ""


def _name(path: str) -> str:
    local = not path.startswith((HUB_PREFIX, "embedded:"))
    return Path(path).name if local else path
