"""Two runs compared: models, metrics, gates, and rows that went right and wrong between them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgetune.errors import InputError
from edgetune.evaluate import Score
from edgetune.evaluate.differences import count_flips
from edgetune.evaluate.paired import compare_scores
from edgetune.measure.statistics import Estimate
from edgetune.report.evaluation import GRADED
from edgetune.report.figures import is_ratio
from edgetune.report.pairs import difference_of

Pair = tuple[dict[str, Any], dict[str, Any]]
NOT_PAIRED = ("perplexity",)  # values by row are losses, of which it is no mean


def diff_runs(first: Path, second: Path) -> dict[str, Any]:
    """Compare the reports of two runs, the second with the first.

    Models are the same by name, or by role, format and scheme where only one of each run has them.
    A metric is paired by rows where both runs asked the same ones; else its interval is made of
    both runs' own, which is wider, and times have none.

    Returns:
        ``runs, task, rows_are_the_same, only_first, only_second`` (names of models), ``metrics``
        (``model, metric, first, second, difference, ci95, paired, n``), ``flips`` (``model, lost,
        gained, both_right, both_wrong``) and ``gates`` whose verdict changed.

    Raises:
        InputError: a run without a readable report.
    """
    one, other = (read_report(path) for path in (first, second))
    pairs = match_models(one["models"], other["models"])
    matched = [{pair[side]["name"] for pair in pairs} for side in (0, 1)]
    definitions = {**one["definitions"], **other["definitions"]}
    graded = [_read_graded(path) for path in (first, second)]
    digests = [found.get("rows_sha256") for found in graded]
    same = digests[0] is not None and digests[0] == digests[1]
    tasks = [(report.get("evaluation") or {}).get("task", {}) for report in (one, other)]
    return {
        "runs": [{"path": str(path), "name": report["name"]}
                 for path, report in ((first, one), (second, other))],
        "task": [{key: task.get(key) for key in ("name", "headline")} for task in tasks],
        "rows_are_the_same": same,
        "only_first": [m["name"] for m in one["models"] if m["name"] not in matched[0]],
        "only_second": [m["name"] for m in other["models"] if m["name"] not in matched[1]],
        "metrics": [figure for pair in pairs for figure in _diff_metrics(pair, definitions)],
        "flips": _diff_flips(pairs, graded) if same else [],
        "gates": _diff_gates(one["gates"], other["gates"]),
    }  # fmt: skip


def read_report(run: Path) -> dict[str, Any]:
    """Return a run's ``report.json``.

    Raises:
        InputError: there is none, or none that can be read.
    """
    path = run / "report" / "report.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {
            "gates": [],
            "definitions": {},
            "name": run.name,
            **found,
            "models": found["models"],
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "this run has no report that can be read", where=str(path),
            hint="`edgetune report RUN` writes it again",
        ) from error  # fmt: skip


def match_models(first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]) -> list[Pair]:
    """Return the models that both runs have, in the second's order."""
    by_name = {model["name"]: model for model in first}
    by_kind: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    others: dict[tuple[str, ...], int] = {}
    for model in first:
        by_kind.setdefault(_kind(model), []).append(model)
    for model in second:
        others[_kind(model)] = others.get(_kind(model), 0) + 1
    found = []
    for model in second:
        alike = by_kind.get(_kind(model), [])
        one = by_name.get(model["name"])
        if one is None and len(alike) == others[_kind(model)] == 1:
            one = alike[0]
        if one is not None:
            found.append((one, model))
    return found


def _kind(model: Mapping[str, Any]) -> tuple[str, ...]:
    return model["role"], model["format"], model["scheme"]


def _diff_metrics(pair: Pair, definitions: Mapping[str, Any]) -> list[dict[str, Any]]:
    before, after = ({_place(m): m for m in model["measurements"]} for model in pair)
    found = []
    for place, second in after.items():
        first = before.get(place)
        if first is None or None in (first["value"], second["value"]):
            continue
        estimate, paired = _compare(first, second, definitions)
        device, kv_cache = place[1:]
        found.append(
            {
                "model": pair[1]["name"], "metric": second["name"], "device": device,
                **({"kv_cache": kv_cache} if kv_cache else {}),
                "first": first["value"], "second": second["value"], "difference": estimate.value,
                "ci95": list(estimate.ci95) if estimate.ci95 else None, "paired": paired,
                "n": estimate.n,
            }
        )  # fmt: skip
    return found


def _place(measurement: Mapping[str, Any]) -> tuple[str, str, str]:
    where = measurement["where"]
    return measurement["name"], str(where.get("device", "")), str(where.get("kv_cache", ""))


def _compare(
    first: Mapping[str, Any], second: Mapping[str, Any], definitions: Mapping[str, Any]
) -> tuple[Estimate, bool]:
    """Return the second less the first, and whether rows were paired."""
    name, change = str(second["name"]), second["value"] - first["value"]
    one, other = (
        Score(name, Estimate(m["value"], m["n"]), rows=m.get("rows")) for m in (first, second)
    )
    digest = second.get("rows_sha256")
    if digest is not None and digest == first.get("rows_sha256") and name not in NOT_PAIRED:
        paired = compare_scores(other, one)
        if paired is not None:
            return paired.estimate, True
    n = min(first["n"], second["n"])
    if first.get("ci95") and second.get("ci95") and is_ratio(name, definitions):
        _, ends = difference_of(dict(second), dict(first))
        return Estimate(change, n, (ends[0], ends[1])), False
    return Estimate(change, n), False


def _diff_flips(pairs: Sequence[Pair], graded: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    right = [{m["name"]: m["right"] for m in found["models"]} for found in graded]
    found = []
    for before, after in pairs:
        rows = right[0].get(before["name"]), right[1].get(after["name"])
        if rows[0] is not None and rows[1] is not None:
            (flips,) = count_flips({"first": rows[0], "second": rows[1]})
            counts = {k: v for k, v in flips.items() if k not in ("reference", "candidate")}
            found.append({"model": after["name"], **counts})
    return found


def _diff_gates(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the gates that hold in one run alone, or that only one has; none is ``None``."""
    before, after = ({gate["name"]: gate["ok"] for gate in gates} for gates in (first, second))
    return [
        {"name": name, "first": before.get(name), "second": after.get(name)}
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    ]


def _read_graded(run: Path) -> dict[str, Any]:
    """Return what a run's report kept of its grading; nothing where it has none."""
    try:
        kept = json.loads((run / "report" / GRADED).read_text(encoding="utf-8"))
        return dict(kept["graded"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
