"""Gather what the stages found into one JSON value, and write it in three forms."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgetune.artifact import Artifact
from edgetune.disk import write_atomic
from edgetune.errors import InputError
from edgetune.facts import (
    DistillFacts,
    ExportedFile,
    ExportFacts,
    QuantizeFacts,
    TuneFacts,
    to_json,
)
from edgetune.measure.definitions import CHECKS, DEFINITIONS, PROMPTING, RENAMED
from edgetune.recipe import Recipe
from edgetune.report.data import find_data
from edgetune.report.distillation import compare_distillation
from edgetune.report.evaluation import Evaluation, add_scores, find_evaluation
from edgetune.report.fairness import define_classifiers, find_fairness
from edgetune.report.findings import find_headline
from edgetune.report.gates import check_gates
from edgetune.report.logged import read_curves, read_lines, read_warnings
from edgetune.report.prompting import find_prompting
from edgetune.report.provenance import count_weights, find_sources, hash_weights
from edgetune.report.resources import find_resources
from edgetune.report.run_facts import RunFacts, read_facts
from edgetune.report.steps import find_steps
from edgetune.report.synthetic import find_synthetic
from edgetune.rundir import RunDir

SCHEMA = 2  # of report.json: goes up when a key goes away or changes its meaning


def build_report(
    recipe: Recipe, artifacts: Mapping[str, Artifact], run: RunDir, machine: dict[str, Any]
) -> dict[str, Any]:
    """Return the report of a run, as JSON values.

    Args:
        recipe: as it was resolved.
        artifacts: by stage; stages that did not run are absent.
        run: where they lie; its log gives the warnings.
        machine: what was measured on.

    Returns:
        What ``report.json`` holds; ``verdict`` is ``fail`` where a gate is.

    Raises:
        InputError: the measurements cannot be read.
    """
    facts = read_facts(artifacts)
    weights, export = count_weights(artifacts.get("merge")), facts.export or ExportFacts()
    models = _read_models(artifacts.get("bench"), export.files, weights)
    evaluation = find_evaluation(recipe, artifacts, run.path / "report")
    add_scores(models, evaluation)
    part = evaluation.part if evaluation else None
    gates = [*_stage_gates(facts), *check_gates(recipe.report.gates, models, part)]
    files, prompting = export.files, find_prompting(artifacts.get("bench"), evaluation)
    fairness = find_fairness(artifacts.get("bench"))
    shipped = facts.distill.shipped if facts.distill else None
    definitions = _definitions(models, files, prompting is not None, evaluation, fairness)
    return {
        "schema": SCHEMA,
        "name": recipe.name,
        "verdict": "pass" if all(gate["ok"] for gate in gates) else "fail",
        "headline": find_headline(models, shipped, part, definitions),
        "definitions": definitions,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "gates": gates,
        "machine": machine,
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        "lineage": _lineage(artifacts, run),
        "models": models,
        "evaluation": part,
        "distillation": _distillation(models, facts.distill, part, definitions),
        "steps": find_steps(artifacts),
        "prompting": prompting,
        "fairness": fairness,
        "synthetic": find_synthetic(artifacts),
        "merge": to_json(facts.merge),
        "searches": _searches(facts.quantize) if facts.quantize else [],
        "chain": _chain(files),
        "sources": find_sources(recipe, artifacts),
        "files": [_shipped(file, weights) for file in files],
        "adapters": to_json(export.adapters),
        "refused": to_json(export.refused),
        "fallbacks": [{"file": file.name, **one} for file in files for one in file.fallbacks],
        "curves": [curve for a in artifacts.values() for curve in read_curves(a)],
        "training": _describe_training(facts),
        "data": find_data(facts),
        "resources": find_resources(read_lines(run.log_path), artifacts),
        "warnings": read_warnings(run.log_path, {a.key for a in artifacts.values()}),
    }


def _stage_gates(facts: RunFacts) -> list[dict[str, Any]]:
    found = [to_json(one.gates) for one in (facts.merge, facts.export) if one]
    return [gate for gates in found for gate in gates]


def _describe_training(facts: RunFacts) -> dict[str, Any]:
    stages = (("tune", facts.tune), ("distill", facts.distill))
    return {name: _plain_values(stage) for name, stage in stages if stage}


def _definitions(
    models: list[dict[str, Any]], files: list[ExportedFile], prompting: bool,
    evaluation: Evaluation | None, fairness: dict[str, Any] | None,
) -> dict[str, dict[str, str]]:  # fmt: skip
    """What each figure of this report is, by its name."""
    shown = {one["name"] for model in models for one in model["measurements"]}
    shown |= set(CHECKS) if files else set()
    shown |= set(PROMPTING) if prompting else set()
    known = {name: asdict(one) for name, one in DEFINITIONS.items() if name in shown}
    known |= define_classifiers(fairness)
    return {**known, **(evaluation.definitions if evaluation else {})}


def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write ``report.json``, ``report.md``, ``report.html``, ``gates.xml`` and ``MODEL_CARD.md``.

    A card is of files, so that there is none without one.
    """
    from edgetune.report.card import render_card
    from edgetune.report.html import render_html
    from edgetune.report.junit import render_junit
    from edgetune.report.markdown import render_markdown

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, ensure_ascii=False, default=str)
    write_atomic(folder / "report.json", text + "\n")
    write_atomic(folder / "report.md", render_markdown(report))
    write_atomic(folder / "gates.xml", render_junit(report))
    texts = folder / "flips.json"
    flips = texts.read_text(encoding="utf-8") if texts.is_file() else None
    write_atomic(folder / "report.html", render_html(report, flips))
    if report["files"]:
        write_atomic(folder / "MODEL_CARD.md", render_card(report))


def _read_models(
    bench: Artifact | None, files: list[ExportedFile], weights: int | None
) -> list[dict[str, Any]]:
    if bench is None:
        return []
    path = bench.path / "measurements.json"
    try:
        models = list(json.loads(path.read_text(encoding="utf-8"))["models"])
        bits = {file.name: _bits_per_weight(file, weights) for file in files}
        for model in models:
            if bits.get(model["name"]) is not None:
                model["bits_per_weight"] = bits[model["name"]]
            for one in model["measurements"]:
                one["name"] = RENAMED.get(one["name"], one["name"])
        return models
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the measurements cannot be read: {error}", where=str(path), hint="run bench again"
        ) from error


def _lineage(artifacts: Mapping[str, Artifact], run: RunDir) -> list[dict[str, Any]]:
    """Return stage, key, kind, parents and path (inside the run) of each artifact, in order."""
    entries = []
    for name, artifact in artifacts.items():
        path = artifact.path
        inside = path.relative_to(run.path) if path.is_relative_to(run.path) else path
        entries.append(
            {
                "stage": name,
                "key": artifact.key,
                "kind": artifact.kind,
                "parents": artifact.parents,
                "path": inside.as_posix(),
                "bytes": sum(int(file["bytes"]) for file in artifact.files.values()),
                "weights": hash_weights(artifact),
            }
        )
    return entries


def _searches(facts: QuantizeFacts) -> list[dict[str, Any]]:
    """Return the search results of each format, with the KL after the method where it was kept."""
    after = {(one["format"], one["name"]): one for one in facts.requantized if one["kept"]}
    searches = []
    for kind, found in (("gguf", facts.search), ("onnx", facts.search_onnx)):
        if found:
            rows = [
                {**row, "kl_after": one.get("kl_after"), "kl_after_rows": one.get("rows")}
                for row in found["results"]
                for one in [after.get((kind, row["name"]), {})]
            ]
            searches.append({"format": kind, **found, "results": rows})
    return searches


def _chain(files: list[ExportedFile]) -> list[dict[str, Any]]:
    """Return what each file was made of, and the KL divergence that this step adds."""
    links = []
    for file in files:
        made_of = "base + adapter" if file.adapter else "merged"
        link = {"name": file.name, "made_of": made_of, **_checks(file)}
        lossless = next((f for f in files if f.lossless and f.format == file.format), file)
        if lossless is not file and file.checks and lossless.checks:
            link["made_of"] = lossless.name
            link["kl_added"] = file.checks.kl_all_tokens - lossless.checks.kl_all_tokens
        else:
            link["kl_added"] = file.checks.kl_all_tokens if file.checks else None
        links.append(link)
    return links


def _checks(file: ExportedFile) -> dict[str, Any]:
    """Return a file's format, size, and comparison with the merged model."""
    return {
        "format": file.format,
        "scheme": file.scheme,
        "lossless": file.lossless,
        "bytes": file.bytes,
        **(to_json(file.checks) if file.checks else {}),
    }


def _shipped(file: ExportedFile, weights: int | None) -> dict[str, Any]:
    """Return where a file lies in the export's folder, its hash, and its checks."""
    return {
        "name": file.name,
        # One that was tuned over lies elsewhere: its path would tell about the machine.
        "path": Path(file.path).name if file.adapter else file.path,
        "sha256": file.sha256,
        "modelfile": file.modelfile,
        "adapter": file.adapter,
        "modelfile_template": file.modelfile_template,
        **_checks(file),
        "bits_per_weight": _bits_per_weight(file, weights),
    }


def _bits_per_weight(file: ExportedFile, weights: int | None) -> float | None:
    """Bits of the tensors' data over the model's parameters; see ``CHECKS`` in measure."""
    data = file.tensor_bytes
    return 8 * data / weights if data and weights else None


def _plain_values(facts: TuneFacts | DistillFacts) -> dict[str, Any]:
    """Return a training stage's facts that are a number, a truth value or a text."""
    values = to_json(facts).items()
    return {key: value for key, value in values if isinstance(value, str | int | float | bool)}


def _distillation(
    models: list[dict[str, Any]], distilled: DistillFacts | None,
    evaluation: dict[str, Any] | None, definitions: dict[str, dict[str, str]],
) -> dict[str, Any] | None:  # fmt: skip
    """Compare student and baseline, unless what shipped is the baseline itself."""
    if distilled is None or distilled.shipped == "baseline":
        return None
    return compare_distillation(models, evaluation, definitions)
