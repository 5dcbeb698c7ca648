"""What a run logged: curves of the training, and warnings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgetune.artifact import Artifact


def read_curves(artifact: Artifact) -> list[dict[str, Any]]:
    """Return ``{"stage", "role", "points"}`` for each role in the artifact's ``metrics.jsonl``."""
    points: dict[str, list[dict[str, Any]]] = {}
    for row in read_lines(artifact.path / "metrics.jsonl"):
        role = str(row.pop("role", artifact.stage))
        points.setdefault(role, []).append(row)
    return [
        {"stage": artifact.stage, "role": role, "points": rows} for role, rows in points.items()
    ]


def read_warnings(path: Path, keys: set[str]) -> list[dict[str, str]]:
    """Return the warnings over these artifacts, each once, in the order they were first given.

    The log also holds those of recipes that ran in this folder before. What was said of no
    artifact is the last run's.
    """
    rows: list[dict[str, Any]] = []
    plan: list[dict[str, Any]] = []
    for row in read_lines(path):
        if row.get("event") == "start":
            plan = []
        elif row.get("event") == "warning":
            if not row.get("key"):
                plan.append(row)
            elif row["key"] in keys:
                rows.append(row)
    rows = [*plan, *rows]
    said = dict.fromkeys((str(row.get("stage", "")), str(row.get("text", ""))) for row in rows)
    return [{"stage": stage, "text": text} for stage, text in said]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; the last may be cut short where a process was killed, and is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
