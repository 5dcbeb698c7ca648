"""What each number of the page is, beyond the metrics that a report defines itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import escape

from edgetune.measure.definitions import CHECKS, MEASUREMENTS, PROMPTING, Definition

#: Where the template leaves room, as comments: data is escaped and can write none.
CONTENTS, DEFINED = "<!--contents-->", "<!--definitions-->"

#: Numbers that only the page shows, or that are made of metrics.
PAGE = {
    "bytes": Definition(
        "Size", "bytes",
        "of a file as it is loaded, or of a checkpoint's weights in memory; 1 kB is 1,000 bytes",
    ),
    "difference": Definition(
        "Difference", "points",
        "a metric of one model minus that of another over the same rows, paired row by row; a "
        "point is a hundredth; the interval is 95 %",
    ),
    "p_adjusted": Definition(
        "p, corrected", "",
        "probability of a difference at least as large if the two were equal, by a paired test, "
        "corrected by Holm's method for all comparisons of the metric in this report; below 0.05 a "
        "difference is called certain",
    ),
    "rows_needed": Definition(
        "Rows needed", "rows",
        "test rows from which a difference of this size would be found with a probability of 80 % "
        "at a level of 5 %",
    ),
    "lost": Definition(
        "Lost", "rows", "rows that the first model answers right and the second wrong"
    ),
    "gained": Definition(
        "Gained", "rows", "rows that the first model answers wrong and the second right"
    ),
    "both_right": Definition("Both right", "rows", "rows that both models answer right"),
    "both_wrong": Definition("Both wrong", "rows", "rows that both models answer wrong"),
    "confused": Definition(
        "Confused", "rows",
        "rows of the expected label that the model gives the other label; the fraction is of the "
        "rows that have the expected label",
    ),
    "part_precision": Definition(
        "Precision", "", "of the answers that give this label or field, the fraction that is right"
    ),
    "part_recall": Definition(
        "Recall", "", "of the rows that have this label or field, the fraction answered right"
    ),
    "part_f1": Definition("F1", "", "harmonic mean of precision and recall of this label or field"),
    "part_rows": Definition("Rows", "rows", "test rows of this part"),
    "part_in_rows": Definition("In rows", "rows", "test rows that have this field"),
    "part_answers": Definition("Answers", "answers", "answers that give this label or letter"),
    "part_in_answers": Definition("In answers", "answers", "answers that have this field"),
    "part_right": Definition("Right", "", "of the rows of this part, the fraction answered right"),
    "part_accuracy": Definition(
        "Accuracy", "", "of the rows of this part, the fraction answered right"
    ),
    "part_mean_probability": Definition(
        "Mean probability", "", "mean over these rows of the probability of the likeliest label"
    ),
    "part_right_program": Definition(
        "Right program", "", "of this program's rows, the fraction whose answer calls it"
    ),
    "part_equal_command": Definition(
        "Equal command", "", "of this program's rows, the fraction whose answer is the command"
    ),
    "part_called": Definition(
        "Called", "", "of the rows that call this tool, the fraction whose answer does"
    ),
    "part_equal_calls": Definition(
        "Equal calls", "",
        "of the rows that call this tool, the fraction whose calls are all equal, with arguments",
    ),
    "fairness_rows": Definition(
        "Rows", "rows", "test rows with two copies, one of each group, that differ in nothing else"
    ),
    "fairness_changed": Definition(
        "Answers changed", "", "fraction of those rows whose answer differs between the two copies"
    ),
    "fairness_within": Definition(
        "Changed within a group", "",
        "the same between two copies of one group: what any other word does",
    ),
    "fairness_loss": Definition(
        "Loss of the answer", "nats",
        "mean difference of the negative log likelihood of the row's answer, the group's copy less "
        "its counterpart's",
    ),
    "fairness_length": Definition(
        "Length", "", "mean difference of the answers' lengths, the group's copy less the other's"
    ),
    "fairness_kl": Definition(
        "KL beyond a group's own", "nats",
        "KL divergence between the two copies, less that between two copies of one group",
    ),
    "fairness_classified": Definition(
        "Probability, group's less its counterpart's", "",
        "mean difference of the probability that a classifier gives its label for the answers, the "
        "group's copy less its counterpart's; for what files changed, less that of the model they "
        "were made of",
    ),
    "classified_rows": Definition("Rows", "rows", "test rows whose answers the classifier read"),
    "classified_difference": Definition(
        "Difference to the base", "",
        "what a classifier says of a model's answers less what it says of the base's to the same "
        "rows, paired row by row: of mean probabilities, or of rates in points (a point is a "
        "hundredth); the interval is 95 %",
    ),
    "classified_p": Definition(
        "p, corrected", "",
        "probability of a difference to the base at least as large if the two were equal, the "
        "less of Wilcoxon's signed ranks (probabilities) and McNemar's test (rates), corrected by "
        "Holm's method for all models and both numbers of the classifier",
    ),
    "commonest": Definition(
        "Commonest answer", "", "fraction of test rows whose right answer is the commonest one"
    ),
    "gates_held": Definition("Gates", "gates", "limits of the recipe and of the stages that hold"),
    "kl_added": Definition(
        "KL it adds", "nats",
        "KL divergence to the merged model, minus that of what the file was made of",
    ),
    "kl_estimated": Definition(
        "KL, sum of parts", "nats",
        "KL divergence that a mix is expected to have: the sum over its tensors of each one's, "
        "measured alone",
    ),
    "kl_measured": Definition(
        "KL, measured", "nats", "mean of KL(merged model || mix) per token of calibration rows"
    ),
    "kl_after": Definition(
        "KL, quants optimized", "nats",
        "the same of validation rows, after the quants of the file were optimized",
    ),
    "step_loss": Definition(
        "Loss", "nats", "mean negative log likelihood per token that is trained on"
    ),
    "curve_loss": Definition(
        "Training loss", "",
        "what a training minimises, mean over the optimizer steps since the one that was logged "
        "before, which n counts; of supervised rows it is the negative log likelihood per token "
        "that is trained on, in nats",
    ),
    "curve_eval_loss": Definition(
        "Validation loss", "", "the same of validation rows, always the same ones, which n counts"
    ),
    "curve_reward": Definition(
        "Mean reward", "",
        "of the answers of the optimizer steps since the one that was logged before, which n "
        "counts",
    ),
    "stage_seconds": Definition("Time", "s", "of a stage, from its start to its artifact"),
    "stage_ram_bytes": Definition(
        "Peak memory", "bytes", "most memory a stage's processes held together"
    ),
    "stage_gpu_bytes": Definition(
        "Peak GPU memory", "bytes", "most GPU memory a stage's processes held together"
    ),
    "gate_value": Definition(
        "Value", "", "of the metric, model and limit that a gate's name says; a gate has one value"
    ),
}  # fmt: skip


def define_numbers(report: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return title, unit and text of every number that this report's page can show, by metric."""
    own = {**MEASUREMENTS, **CHECKS, **PROMPTING, **PAGE}
    known = {
        name: {"title": one.title, "unit": one.unit, "text": one.text} for name, one in own.items()
    }
    return {**known, **report.get("definitions", {})}


def count_measured(report: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return the observations behind each metric of a report: those its page does not show too."""
    counts: dict[str, list[int]] = {name: [] for name in report.get("definitions", {})}
    for model in report.get("models", ()):
        for one in model["measurements"]:
            counts.setdefault(one["name"], []).append(int(one["n"]))
    return counts


def finish_page(
    page: str, definitions: Mapping[str, Mapping[str, str]], measured: Mapping[str, list[int]]
) -> str:
    """Fill in the sections' names and the definitions of all numbers of the page and the report.

    Numbers are read from the page itself, so that a part that is added needs no second list.

    Args:
        page: as the template gives it.
        definitions: by metric.
        measured: see :func:`count_measured`.
    """
    sections = re.findall(r'<section id="([\w-]+)"><h2>([^<]+)</h2>', page)
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title in sections)
    counts: dict[str, list[int]] = {}
    for name, n in re.findall(r'data-metric="([^"]+)"(?: data-n="(\d*)")?', page):
        counts.setdefault(name, []).append(int(n or 0))
    known = {**measured, **counts}
    shown = {name: known[name] for name in definitions if name in known}
    rows = [_write_definition(name, definitions[name], n) for name, n in shown.items()]
    return page.replace(CONTENTS, links, 1).replace(DEFINED, "".join(rows), 1)


def _write_definition(name: str, one: Mapping[str, str], counts: Iterable[int]) -> str:
    unit = f" Unit: {one['unit']}." if one["unit"] else ""
    text, title = escape(one["text"]), escape(one["title"])
    sentence = f"{text[:1].upper()}{text[1:]}.{escape(unit)}"
    counts = list(counts)
    n = f"Behind each number (n): {list_observations(counts)}."
    n = n if counts else "This report has no such number."
    return (
        f'<dt id="definition-{escape(name)}" data-title="{title}">{title}<br>'
        f'<small class="mono">{escape(name)}</small></dt>'
        f"<dd><span>{sentence}</span> <small>{n}</small></dd>"
    )


def list_observations(counts: Iterable[int]) -> str:
    """Return in words how many observations are behind a metric's numbers on the page."""
    known = sorted({count for count in counts if count})
    if not known:
        return "not recorded"
    if len(known) == 1:
        return f"{known[0]:,}"
    return f"{known[0]:,} to {known[-1]:,}"
