"""The report of a sweep: one JSON value, and the page made of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgetune.disk import make_folder, write_atomic
from edgetune.recipe import Recipe
from edgetune.recipe.search import OBJECTIVES, Choices
from edgetune.recipe.trial import search_of
from edgetune.report.sweep import render_sweep
from edgetune.sweep.final import KEPT
from edgetune.sweep.study import Study
from edgetune.sweep.trials import find_best, find_pareto


def gather_report(recipe: Recipe, study: Study) -> dict[str, Any]:
    """Return what a study found so far, as JSON values."""
    search, trials = search_of(recipe), study.trials()
    best = find_best(trials, search.objectives[0])
    comparison = study.recall(KEPT)
    if best is None or (comparison and comparison["best"] != best.number):
        comparison = None
    return {
        "schema": 1,
        "name": study.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "objectives": {name: OBJECTIVES[name] for name in search.objectives},
        "constraints": dict(search.constraints),
        "space": {
            key: {"values": list(one.values)} if isinstance(one, Choices) else asdict(one)
            for key, one in search.space.items()
        },
        "trials": [asdict(one) for one in trials],
        "best": best.number if best else None,
        "pareto": find_pareto(trials, search.objectives),
        "importance": study.importance(),
        "comparison": comparison,
    }


def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write ``report/report.json`` and ``report/report.html`` of a sweep."""
    target = folder / "report"
    make_folder(target)
    text = json.dumps(report, indent=1, ensure_ascii=False, default=str)
    write_atomic(target / "report.json", text + "\n")
    write_atomic(target / "report.html", render_sweep(report))
