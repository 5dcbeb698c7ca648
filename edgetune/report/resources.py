"""What each stage took of the machine beside what was planned, as the run's log has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgetune.artifact import Artifact
from edgetune.measure.usage import EVENT

#: Measured and planned, by the name of the measured figure.
FIGURES = ("ram_bytes", "gpu_bytes", "seconds")


def find_resources(
    events: Iterable[Mapping[str, Any]], artifacts: Mapping[str, Artifact]
) -> list[dict[str, Any]]:
    """Return stage, ``measured``, ``planned`` (or none) and ``resumed`` of each stage that ran.

    Args:
        events: of the run's log; the last of an artifact counts.
        artifacts: by stage.
    """
    last = {row["key"]: row for row in events if row.get("event") == EVENT and row.get("key")}
    rows = []
    for stage, artifact in artifacts.items():
        row = last.get(artifact.key)
        if row is None:
            continue
        planned = row.get("planned")
        rows.append(
            {
                "stage": stage,
                "measured": {name: row[name] for name in FIGURES},
                "planned": {name: planned[name] for name in FIGURES} if planned else None,
                "resumed": bool(row.get("resumed")),
            }
        )
    return rows


def resource_pair(row: Mapping[str, Any], name: str) -> tuple[float, float | None]:
    """Return a figure as it was measured and as it was planned; none where there was no plan.

    The time of a stage that an earlier process began is not compared.
    """
    planned = row["planned"]
    if planned is None or (name == "seconds" and row["resumed"]):
        return row["measured"][name], None
    return row["measured"][name], planned[name]
