"""``edgetune report diff``: what changed from one run to another."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click


@click.command("diff")
@click.argument("first", metavar="RUN", type=click.Path(path_type=Path, exists=True))
@click.argument("second", metavar="RUN", type=click.Path(path_type=Path, exists=True))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line instead.")
def diff(first: Path, second: Path, as_json: bool) -> None:
    """Compare the second run with the first: models, metrics, flips and gates.

    Metrics are paired by rows where both runs asked the same ones. Shown are the task's metric, and
    others whose change is certain; --json has all.
    """
    from edgetune.report.run_diff import diff_runs

    found = diff_runs(first, second)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    for line in _lines(found):
        click.echo(line)


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    first, second = found["runs"]
    yield f"{first['name']} ({first['path']}) → {second['name']} ({second['path']})"
    if not found["rows_are_the_same"]:
        yield "The runs were not asked the same rows: intervals are those of two samples."
    for side, run in (("only_first", first), ("only_second", second)):
        if found[side]:
            yield f"Only in {run['path']}: {', '.join(found[side])}"
    headlines = {task["headline"] or "exact_match" for task in found["task"]}
    shown = [one for one in found["metrics"] if _is_shown(one, headlines)]
    for one in shown:
        ends = one["ci95"]
        around = f" (95 % interval {ends[0]:+.4g} to {ends[1]:+.4g}" if ends else ""
        around += f", {one['n']:,} rows{', paired' if one['paired'] else ''})" if ends else ""
        yield (
            f"{one['model']}: {one['metric']} {one['first']:.4g} → {one['second']:.4g}, "
            f"{one['difference']:+.4g}{around}"
        )
    if not shown:
        yield "No metric changed for certain."
    for one in found["flips"]:
        if one["lost"] or one["gained"]:
            yield (
                f"{one['model']}: {one['gained']:,} rows wrong → right, {one['lost']:,} rows "
                "right → wrong"
            )
    for gate in found["gates"]:
        states = [_state(gate[side]) for side in ("first", "second")]
        yield f"gate {gate['name']}: {' → '.join(states)}"


def _is_shown(one: Mapping[str, Any], headlines: set[str]) -> bool:
    if "kv_cache" in one or one["difference"] == 0:
        return False
    ends = one["ci95"]
    return one["metric"] in headlines or bool(ends and ends[0] * ends[1] > 0)


def _state(holds: bool | None) -> str:
    return "not there" if holds is None else "holds" if holds else "fails"
