"""The results of a vote as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NONE = "–"


def render_table(found: Mapping[str, Any]) -> str:
    """Return what :func:`edgetune.votes.results.count_all` found, as text."""
    people = found["people"]
    voters = ", ".join(f"{one['name']} {one['votes']:,}" for one in found["voters"])
    models = ", ".join(found["models"])
    lines = [f"page {found['page']}: {found['comparisons']:,} comparisons of {models}"]
    if people:
        lines += [f"{people['votes']:,} votes of people ({voters})", "", *_say(people)]
    for one in found["judge_models"]:
        lines += ["", f"judge model {one['name']} (a model, not a person): {one['votes']:,} votes"]
        lines += _say_model(one)
    lines += [""] * bool(found["notes"]) + [f"note  {note}" for note in found["notes"]]
    return "\n".join(lines)


def _say(said: Mapping[str, Any]) -> list[str]:
    """Return the tables of some votes."""
    rows = [
        [
            f"{one['model']} over {one['against']}",
            _percent(one["win_rate"]),
            f"{one['wins']:,}/{one['ties'] + one['both_bad']:,}/{one['losses']:,}",
            f"{one['rows']:,}",
            _p(one["p_adjusted"]),
            one["verdict"] + _more(one),
        ]
        for one in said["pairs"]
    ]
    titles = ["win rate", "value (95 %)", "won/tied/lost", "rows", "p", ""]
    lines = _align([titles, *rows])
    lines += [
        f"equal answers, which are not on the page: {one['equal_answers']:,} of "
        f"{one['asked_rows']:,} rows of {one['model']} and {one['against']}"
        for one in said["pairs"]
        if one["equal_answers"]
    ]
    for group in said["scores"]:
        scores = [[one["model"], _score(one), f"{one['n']:,}"] for one in group]
        lines += ["", *_align([["Bradley-Terry score", "log odds (95 %)", "votes"], *scores])]
    position = said["position"]
    bias = "no bias found" if position["p_value"] >= 0.05 else "BIAS"
    lines += [
        "",
        f"position   answer 1 wins {_percent(position)}; 50 % without bias, "
        f"p {_p(position['p_value'])}: {bias}",
    ]
    agreed = said["agreement"]
    if agreed:
        alpha = agreed["alpha"]
        known = alpha["value"] is not None
        value = f"{alpha['value']:.2f}{_interval(alpha, '{:.2f}')}" if known else NONE
        lines.append(
            f"agreement  Krippendorff's alpha {value} on {alpha['n']:,} comparisons with several "
            "votes"
        )
        lines.append(f"           two votes on one are alike {_percent(agreed['alike'])}")
    return lines


def _say_model(one: Mapping[str, Any]) -> list[str]:
    lines = []
    if one["unreadable"]:
        lines.append(f"{one['unreadable']:,} replies were no vote")
    if one["consistent"]:
        lines.append(
            f"the same in both orders: {_percent(one['consistent'])}, "
            f"{100 * one['consistent']['by_chance']:.0f} % by chance; otherwise a tie"
        )
    said = one["agreement_with_people"]
    lines.append(
        f"as people voted: {_percent(said)} on {said['n']:,} comparisons, "
        f"{100 * said['by_chance']:.0f} % by chance"
        if said
        else "no person voted on what it voted on"
    )
    lines = [*(f"NOTE  {note}" for note in one["notes"]), *lines]
    return [*lines, *_say(one)]


def _more(one: Mapping[str, Any]) -> str:
    if one["verdict"] == "better":
        return ""
    more = one["more_votes"]
    if more is None or more > 100_000:
        return "; no number of votes is likely to decide"
    return f"; about {more:,} more votes would decide, if the rate stays"


def _percent(one: Mapping[str, Any]) -> str:
    return f"{100 * one['value']:.1f} %{_interval(one, '{:.1f}', 100)}"


def _score(one: Mapping[str, Any]) -> str:
    return f"{one['value']:+.2f}{_interval(one, '{:+.2f}')}"


def _interval(one: Mapping[str, Any], form: str, factor: float = 1) -> str:
    if not one["ci95"]:
        return ""
    low, high = (form.format(factor * end) for end in one["ci95"])
    return f" ({low} to {high})"


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
