"""What grading found, in lines for who benches files without a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def tell_scores(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the task, each model's headline metric, and its difference to its references.

    Args:
        found: as :func:`edgetune.evaluate.grading.grade_predictions` returns it.
    """
    task, metric = found["task"], found["task"]["headline"]
    how = "guessed" if task["guessed"] else "chosen"
    yield f"task {task['name']} ({how}: {task['why']}), {found['rows']:,} rows"
    for model in found["models"]:
        score = next((one for one in model["scores"] if one["name"] == metric), None)
        if score is None or score["value"] is None:
            continue
        against = [
            f"{one['difference']:+.4g} against {one['reference']}{_interval(one, '+')}"
            for one in found["differences"]
            if one["candidate"] == model["name"] and one["metric"] == metric
        ]
        value = f"{model['name']}: {metric} {score['value']:.4g}{_interval(score, '')}"
        yield "; ".join([value, *against])


def _interval(one: Mapping[str, Any], sign: str) -> str:
    ends = one["ci95"]
    return f" ({ends[0]:{sign}.4g} to {ends[1]:{sign}.4g})" if ends else ""
