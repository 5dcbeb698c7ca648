"""The page's first answers: whether tuning helped, whether shipping kept it, and what to take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgetune.report.figures import (
    Definitions,
    difference_cell,
    higher_is_better,
    score_cell,
    write_interval,
    write_value,
)
from edgetune.report.format import (
    NONE,
    depth_of,
    measured,
    milliseconds,
    percent,
    rate,
    reference,
    short_name,
    size,
    small,
    times,
    value_of,
    with_role,
)
from edgetune.report.kept import find_kept, find_lowness, name_metric
from edgetune.report.pairs import compare_models, is_certain
from edgetune.report.tables import Cell

Sentence = list[str | Cell]


@dataclass(frozen=True)
class Answer:
    """A question that everybody has, answered.

    Attributes:
        question: in plain words.
        short: the answer in a word or two.
        kind: ``good``, ``bad`` or ``open``, for its colour.
        sentence: texts, and cells where numbers are.
    """

    question: str
    short: str
    kind: str
    sentence: Sentence


def answer_questions(report: Mapping[str, Any], definitions: Definitions) -> list[Answer]:
    """Return what a reader wants to know first; a question that nothing answers is left out."""
    models = report["models"]
    tuned = with_role(models, "teacher") or with_role(models, "merged")
    base, chosen = with_role(models, "base"), find_chosen(report)
    metric, evaluation = headline_metric(report), report.get("evaluation")
    found = []
    if base and tuned:
        pair = compare_models(base, tuned, metric, evaluation, definitions)
        found += [_helped(pair, base, tuned, definitions)] if pair else []
    if chosen and tuned and chosen is not tuned:
        pair = compare_models(tuned, chosen, metric, evaluation, definitions)
        commonest = (evaluation or {}).get("commonest") or 0.0
        found += [_kept(pair, tuned, chosen, commonest, definitions)] if pair else []
    if chosen:
        found.append(_recommend(report, chosen))
    return [*found, *_gates(report)]


def find_chosen(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the model that the headline recommends."""
    name = report["headline"].get("model")
    return next((model for model in report["models"] if model["name"] == name), None)


def headline_metric(report: Mapping[str, Any]) -> str:
    """Return the metric that answers whether tuning helped."""
    evaluation = report.get("evaluation") or {}
    return str(evaluation.get("task", {}).get("headline", "exact_match"))


def _helped(
    pair: Mapping[str, Any], base: dict[str, Any], tuned: dict[str, Any], definitions: Definitions
) -> Answer:
    better = (pair["difference"] > 0) == higher_is_better(pair["metric"])
    short, kind = ("Yes", "good") if better else ("No, it is worse", "bad")
    if not is_certain(pair):
        short, kind = "Not certain", "open"
    before, after = (measured(one, pair["metric"]) for one in (base, tuned))
    sentence = [
        f"The tuned model ({tuned['name']}) has ", score_cell(after, definitions),
        f" {name_metric(pair['metric'], definitions)}, the base ",
        score_cell(before, definitions), ": ", *_tell_difference(pair, definitions), ".",
    ]  # fmt: skip
    return Answer("Did tuning help?", short, kind, sentence)


def _kept(
    pair: Mapping[str, Any], tuned: dict[str, Any], chosen: dict[str, Any], commonest: float,
    definitions: Definitions,
) -> Answer:  # fmt: skip
    before, after = (measured(one, pair["metric"]) or {} for one in (tuned, chosen))
    found = find_kept(pair, before, definitions)
    short, kind = {
        "kept": (f"Yes, within {found.tolerated}", "good"),
        "lost": ("It lost some", "bad"),
        "open": ("Not certain", "open"),
    }[found.outcome]
    sentence = [
        f"{chosen['name']} has ", score_cell(after, definitions),
        f" {name_metric(pair['metric'], definitions)}, {tuned['name']} ",
        score_cell(before, definitions), ": ", *_tell_difference(pair, definitions), ".",
    ]  # fmt: skip
    lowness = find_lowness(before, commonest, definitions)
    if lowness:
        short, kind = "Too low to tell", "open"
    if lowness == "chance":
        alone = Cell(percent(commonest), "", "commonest", int(before["n"]))
        sentence += [" The commonest answer alone would have ", alone, "."]
    needed = pair.get("rows_needed")
    if kind == "open" and needed and not lowness:
        sentence += [" To be certain, about ", Cell(f"{needed:,}", "", "rows_needed", pair["n"])]
        sentence += [" test rows would be needed."]
    return Answer("Did shipping keep it?", short, kind, sentence)


def _tell_difference(pair: Mapping[str, Any], definitions: Definitions) -> Sentence:
    cell = difference_cell(pair, definitions)
    ends = write_interval(pair.get("ci95"), pair["metric"], definitions, "+")
    interval = f"95 % interval {ends}, " if ends else ""
    return [Cell(cell.text, "", "difference", cell.n), f" ({interval}n = {pair['n']:,})"]


def _recommend(report: Mapping[str, Any], chosen: dict[str, Any]) -> Answer:
    against, ratio = reference(report["models"]), report["headline"].get("ratio") or 0
    sentence: Sentence = [Cell(size(chosen["bytes"]), "", "bytes", 1)]
    if against and ratio >= 1:
        sentence.append(f", {times(ratio)} smaller than the {against['role']}")
    speed = measured(chosen, "decode_tokens_per_s")
    if speed:
        sentence += ["; it writes ", Cell(rate(speed["value"]), "", speed["name"], speed["n"])]
        sentence += [" tokens/s on this machine"]
    title = {"file": "Which file?"}.get(chosen["role"], "Which model?")
    return Answer(title, short_name(chosen), "", [f"{chosen['name']}: ", *sentence, "."])


def _gates(report: Mapping[str, Any]) -> list[Answer]:
    gates = report["gates"]
    if not gates:
        return []
    failed = [gate for gate in gates if not gate["ok"]]
    held = Cell(f"{len(gates) - len(failed)} of {len(gates)}", "", "gates_held", len(gates))
    sentence: Sentence = [held, f" gates hold; {failed[0]['name']} does not." if failed else
                          " gates hold."]  # fmt: skip
    short, kind = ("Fail", "bad") if failed else ("Pass", "good")
    return [Answer("May it ship?", short, kind, sentence)]


def key_figures(report: Mapping[str, Any]) -> list[tuple[str, Cell, str]]:
    """Return title, value and note of the recommended model's figures."""
    best, against = find_chosen(report), reference(report["models"])
    if not best or not against:
        return []
    headline, definitions = report["headline"], report.get("definitions", {})
    name = headline.get("score", "exact_match")
    title = str(definitions.get(name, {}).get("title") or name_metric(name, definitions))
    score = score_cell(measured(best, name), definitions)
    whole = write_value(value_of(against, name), name, definitions)
    note = f"the {against['role']}’s {whole}"
    if name == "top1_answer_tokens":
        title, note = "Same top token", f"as the {against['role']}’s"
    depth = depth_of(report["models"])
    at_depth = f"tokens/s at depth {depth}" if depth is not None else "tokens/s"
    figures = [
        (title, Cell(score.text, "", name, score.n), note),
        ("Size", Cell(size(best["bytes"]), "", "bytes", 1), f"{times(headline['ratio'])} smaller"),
    ]
    for title, name, form, note in (
        ("KL to the teacher", "kl_answer_tokens", small,
         f"nats; perplexity {small(value_of(best, 'perplexity'))}"),
        ("First token", "ttft_ms_p50", milliseconds, "median"),
        ("Decode", "decode_tokens_per_s", rate, at_depth),
        ("Peak memory", "peak_rss_bytes", size, "of its process"),
    ):  # fmt: skip
        n = (measured(best, name) or {"n": 0})["n"]
        figures.append((title, Cell(form(value_of(best, name)), "", name, n), note))
    return [figure for figure in figures if figure[1].text != NONE]
