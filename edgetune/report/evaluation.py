"""The report's part on what answers are worth: graded from disk, and kept beside the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgetune.artifact import Artifact, hash_json, hash_source
from edgetune.data.columns import read_columns
from edgetune.data.sources import hash_sources
from edgetune.disk import write_atomic
from edgetune.errors import InputError
from edgetune.evaluate import TASKS
from edgetune.evaluate.grading import VERSION, Settings, find_settings, grade_predictions
from edgetune.evaluate.predictions import FOLDER, PROMPTED, Predictions, read_predictions
from edgetune.recipe import BenchSection, Recipe

GRADED, FLIPS = "graded.json", "flips.json"


@dataclass(frozen=True)
class Evaluation:
    """What grading found.

    Attributes:
        part: the report's key ``evaluation``.
        scores: by model, as measurements without ``where``.
        definitions: by metric.
    """

    part: dict[str, Any]
    scores: dict[str, list[dict[str, Any]]]
    definitions: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """The metric that answers whether tuning helped."""
        return str(self.part["task"]["headline"])


def find_evaluation(
    recipe: Recipe, artifacts: Mapping[str, Artifact], folder: Path
) -> Evaluation | None:
    """Grade the answers that bench kept, and write ``flips.json`` into the report's folder.

    What was graded is kept there too, by a key of all that decides it.

    Returns:
        None where no model was asked anything.

    Raises:
        InputError: the answers cannot be read or graded, or rows not be sliced.
    """
    bench = artifacts.get("bench")
    predictions = read_predictions(bench.path / FOLDER) if bench is not None else None
    if bench is None or predictions is None:
        (folder / FLIPS).unlink(missing_ok=True)
        return None
    section = recipe.bench or BenchSection()
    settings = find_settings(section, recipe.report.gates)
    key = _make_key(bench, settings)
    found = _read_kept(folder / GRADED, key)
    if found is None:
        columns = _read_columns(recipe, predictions, artifacts) if settings.slices else {}
        found = grade_predictions(predictions, settings, columns)
        folder.mkdir(parents=True, exist_ok=True)
        kept = json.dumps({"key": key, "graded": found}, ensure_ascii=False)
        write_atomic(folder / GRADED, kept)
    _write_flips(folder / FLIPS, predictions, found)
    task = TASKS[found["task"]["name"]]
    shown = ("name", "role", "tables", "slices")
    # What bench measured has its scores among its measurements; a prompt has them here alone.
    models = [
        {name: model[name] for name in (*shown, *(("scores",) * (model["role"] == PROMPTED)))}
        for model in found["models"]
    ]
    return Evaluation(
        {**found, "models": models},
        {model["name"]: model["scores"] for model in found["models"]},
        {name: asdict(one) for name, one in task.definitions.items()},
    )


def _read_columns(
    recipe: Recipe, predictions: Predictions, artifacts: Mapping[str, Artifact]
) -> dict[str, dict[str, Any]]:
    """Return the columns that rows are sliced by, of the files that they were read from.

    Raises:
        InputError: a file has changed since, so that its lines are others.
    """
    data, bench = recipe.data, recipe.bench
    assert data is not None and bench is not None
    parents = (artifacts.get("prepare") or artifacts["bench"]).parents
    for part in ("train", "validation", "test"):
        named = getattr(data, part)
        if named is not None and part in parents and parents[part] != hash_sources(named):
            raise InputError(
                "these rows have changed since they were asked, so their columns are not known",
                where=f"data.{part}", hint="run again, or leave bench.slices out",
            )  # fmt: skip
    places = {one.where for one in predictions.questions()}
    return read_columns(data, bench.split, bench.slices, places, recipe.seed)


def add_scores(models: Sequence[dict[str, Any]], found: Evaluation | None) -> None:
    """Append each model's scores to its measurements, but those that bench has already.

    They were measured where the model answered: on the device of its first measurement.
    """
    for model in models:
        have = {one["name"] for one in model["measurements"]}
        where = dict(model["measurements"][0]["where"]) if model["measurements"] else {}
        where = {name: value for name, value in where.items() if not name.endswith("_tokens")}
        for score in found.scores.get(model["name"], ()) if found else ():
            if score["name"] not in have:
                model["measurements"].append({**score, "where": where})


def _make_key(bench: Artifact, settings: Settings) -> str:
    answers = {
        name: file["sha256"] for name, file in bench.files.items() if name.startswith(f"{FOLDER}/")
    }
    named = [str(settings.options.get("schema_file", ""))]
    named.append(str(settings.options.get("metric", "")).rpartition(":")[0])
    files = [hash_source(Path(name)) for name in named if name]
    return hash_json([VERSION, answers, asdict(settings), files])


def _read_kept(path: Path, key: str) -> dict[str, Any] | None:
    """Return what was graded before, where all that decides it is the same."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        found: dict[str, Any] = kept["graded"]
        return found if kept["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_flips(path: Path, predictions: Predictions, found: Mapping[str, Any]) -> None:
    """Write the texts that the page lets a person compare; none where they are confidential."""
    if predictions.confidential:
        path.unlink(missing_ok=True)
        return
    right = [model["right"] for model in found["models"]]
    answers = [predictions.answers(model) for model in predictions.models]
    rows = []
    for number, question in enumerate(predictions.questions()):
        given = [answer[number] for answer in answers]
        texts = list(dict.fromkeys(given))
        places = {text: place for place, text in enumerate(texts)}
        rows.append(
            {
                "prompt": question.prompt,
                "expected": question.expected,
                "answers": [places[text] for text in given],
                "texts": texts,
                "right": None if None in right else [row[number] for row in right],
            }
        )
    names = [model.name for model in predictions.models]
    text = json.dumps({"models": names, "rows": rows}, ensure_ascii=False)
    write_atomic(path, text)
