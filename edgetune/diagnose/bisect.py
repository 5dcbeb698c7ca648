"""Compare each step of a run with the one before it, and name the first that fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from edgetune.artifact import ENTRY, Artifact, load_artifact
from edgetune.compare.checks import Question
from edgetune.compare.comparison import Comparison
from edgetune.compare.model_spec import ModelSpec, resolve_spec
from edgetune.diagnose.verify import verify_pair
from edgetune.errors import InputError
from edgetune.log import Log

ENDS = ("export", "merge")  # whose generation is looked at, the first that is there
LOSSLESS_FILES = {"gguf": ("F32", "BF16", "F16"), "onnx": ("fp32", "fp16")}


@dataclass(frozen=True)
class StepResult:
    """One step from a model to the next, with its verdict."""

    name: str
    comparison: Comparison

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"step": self.name, **self.comparison.to_json()}


@dataclass(frozen=True)
class Step:
    """A pair to compare: what it is called, from what to what."""

    name: str
    before: str
    after: str


def find_steps(made: Mapping[str, Artifact], run: Path) -> list[Step]:
    """Return the steps of a run's artifacts: trained → merged → lossless file → other files.

    Args:
        made: artifacts by stage.
        run: the run's folder, for errors.

    Raises:
        InputError: no merged model among them.
    """
    if "merge" not in made:
        raise InputError(
            "no merged model in this run", where=str(run), hint="`edgetune run` it first"
        )
    steps = []
    parent = made.get("distill") or made.get("tune")
    merged = str(made["merge"].path)
    if parent is not None:
        name = "student → merged" if parent.stage == "distill" else "base + adapter → merged"
        steps.append(Step(name, str(parent.path), merged))
    export = made.get("export")
    files = export.facts["files"] if export else []
    for kind, lossless in LOSSLESS_FILES.items():
        of_kind = [file for file in files if file["format"] == kind]
        source = next((f for s in lossless for f in of_kind if f["scheme"] == s), None)
        for file in sorted(of_kind, key=lambda each: each is not source):
            plain = file is source or source is None
            before = merged if plain else str(export.path / source["path"])  # type: ignore[union-attr, index]
            label = "merged" if plain else source["name"]  # type: ignore[index]
            after = str(export.path / file["path"])  # type: ignore[union-attr]
            steps.append(Step(f"{label} → {file['name']}", before, after))
    return steps


def newest_generation(run: Path) -> dict[str, Artifact]:
    """Return the newest files (or merged model) in a run's folder, and what they were made of.

    For a folder whose recipe no longer leads to its artifacts. Artifacts of one generation name
    their parents' keys, so none of another recipe gets among them.

    Raises:
        InputError: no artifact there.
    """
    found = [load_artifact(entry.parent) for entry in run.glob(f"*/{ENTRY}")]
    if not found:
        raise InputError("no artifact of a run here", where=str(run))
    by_key = {one.key: one for one in found}
    ages = {one.key: (one.path / ENTRY).stat().st_mtime for one in found}
    last = [one for stage in ENDS for one in found if one.stage == stage]
    made: dict[str, Artifact] = {}
    waiting = sorted(last, key=lambda one: (ENDS.index(one.stage), -ages[one.key]))[:1]
    while waiting:
        one = waiting.pop()
        made[one.stage] = one
        waiting += [by_key[key] for key in one.parents.values() if key in by_key]
    return made


def paths_to_steps(paths: Sequence[str]) -> list[Step]:
    """Return the steps between consecutive models that the user named."""
    return [Step(f"{Path(a).name} → {Path(b).name}", a, b) for a, b in pairwise(paths)]


def verify_steps(steps: Sequence[Step], question: Question, log: Log) -> list[StepResult]:
    """Verify every step, those after a failing one too, so that the report is complete."""
    subjects: dict[str, ModelSpec] = {}
    results = []
    for step in steps:
        for spec in (step.before, step.after):
            if spec not in subjects:
                subjects[spec] = resolve_spec(spec)
        pair = verify_pair(subjects[step.before], subjects[step.after], question, log.muted())
        results.append(StepResult(step.name, pair))
        kl = pair.find("weights").figures.get("kl_mean")
        said = "" if kl is None else f"KL {kl:.2e}"
        log.say(f"{step.name}: {'ok' if pair.ok else 'FAIL: ' + str(pair.failing_check)}  {said}")
    return results


def first_failing(results: Sequence[StepResult]) -> StepResult | None:
    """Return the first step that fails."""
    return next((result for result in results if not result.comparison.ok), None)
