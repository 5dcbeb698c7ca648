"""The table of what the run took."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from edgetune.report.resources import find_resources
from edgetune.report.tables import resource_rows

PLANNED = {"ram_bytes": 2_000_000_000, "gpu_bytes": 0, "seconds": 100.0}


def event(key: str, seconds: float, **fields: Any) -> dict[str, Any]:
    figures = {"ram_bytes": 1_000_000_000, "gpu_bytes": 0, "seconds": seconds}
    return {"event": "usage", "key": key, **figures, "planned": None, "resumed": False, **fields}


def rows_of(*events: dict[str, Any]) -> list[dict[str, Any]]:
    artifacts: Any = {name: SimpleNamespace(key=name[0], path=Path()) for name in ("tune", "merge")}
    return find_resources(events, artifacts)


def test_the_last_run_of_an_artifact_counts_and_others_do_not() -> None:
    rows = rows_of(event("t", 1.0), event("t", 2.0), event("x", 3.0), {"event": "say", "key": "m"})
    assert [(row["stage"], row["measured"]["seconds"]) for row in rows] == [("tune", 2.0)]


def test_measured_and_planned_stand_in_a_cell() -> None:
    titles, rows = resource_rows(rows_of(event("t", 150.0, planned=PLANNED), event("m", 5.0)))
    assert titles == ["Time", "Peak memory"]
    (tune, cells), (merge, plain) = rows
    assert (tune, merge) == ("tune", "merge")
    assert cells[0].text == "2:30" and cells[0].below == "plan 1:40"
    assert cells[1].below.startswith("plan 2") and plain[0].below == ""


def test_the_time_of_a_resumed_stage_is_not_compared() -> None:
    (row,) = rows_of(event("t", 150.0, planned=PLANNED, resumed=True))
    _, rows = resource_rows([row])
    assert rows[0][1][0].below == "" and rows[0][1][1].below
