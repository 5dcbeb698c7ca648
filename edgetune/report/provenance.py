"""Where a run's files come from: sources with their licences, weights with their hashes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgetune.artifact import Artifact
from edgetune.data.hub_rows import PREFIX as HUB_PREFIX
from edgetune.models.checkpoint import Checkpoint
from edgetune.models.licence import NOT_STATED, Licence, find_licence
from edgetune.models.resolve import find_local
from edgetune.naming import is_hub_id
from edgetune.recipe import Recipe, list_sources

_OWN = Licence("Apache-2.0", "edgetune")  # what the package carries is part of it


def find_sources(recipe: Recipe, artifacts: Mapping[str, Artifact]) -> list[dict[str, Any]]:
    """Return ``{"what", "name", "hub", "licence", "said_in", "sha256"}`` of each source of the run.

    A folder's name is shown instead of its path, which would tell about the machine.
    """
    return [
        {
            "what": what,
            "name": path if path.startswith("embedded:") or is_hub_id(path) else Path(path).name,
            "hub": is_hub_id(path),
            "licence": licence.name,
            "said_in": licence.said_in,
            "sha256": _hash_of(key, artifacts),
        }
        for what, key, path, stated in _named(recipe)
        for licence in [Licence(stated, "the recipe") if stated else _licence(path, recipe)]
    ]


def _named(recipe: Recipe) -> Iterator[tuple[str, str, str, str | None]]:
    """Yield what a source is, its name among the sources of a key, its path and stated licence."""
    yield "base model", "model", recipe.model.path, None
    if recipe.base_file is not None:
        yield "GGUF file tuned over", "base_file", str(recipe.base_file), None
    if recipe.distill is not None:
        if recipe.distill.teacher is not None:
            yield "teacher", "teacher", recipe.distill.teacher, None
        if recipe.distill.student.path is not None:
            yield "student", "student", recipe.distill.student.path, None
        if recipe.distill.prompts is not None:
            yield "prompts", "prompts", recipe.distill.prompts, None
    named = [("", recipe.data), *((f" of {step.name}", step.data) for step in recipe.steps)]
    for step, data in named:
        for part in ("train", "validation", "test") if data else ():
            for source in list_sources(getattr(data, part) or ()):
                path = source.path.removeprefix(HUB_PREFIX)
                yield f"{part} rows{step}", f"{part}{step}", path, source.license


def _licence(path: str, recipe: Recipe) -> Licence:
    if path.startswith("embedded:"):
        return _OWN
    revision = recipe.model.revision if path == recipe.model.path else None
    found = find_local(path, revision)
    return find_licence(found) if found is not None else Licence(NOT_STATED, "")


def _hash_of(key: str, artifacts: Mapping[str, Artifact]) -> str | None:
    """The content hash that stages recorded; a hub id is known by name and revision."""
    part, _, step = key.partition(" of ")
    made = [artifacts[f"prepare-{step}"]] if f"prepare-{step}" in artifacts else artifacts.values()
    found = (artifact.parents.get(f"source:{part}") for artifact in made)
    return next((value for value in found if value), None)


def hash_weights(artifact: Artifact) -> dict[str, str]:
    """Return path and SHA-256 of the safetensors files that a stage made."""
    return {
        name: str(file["sha256"])
        for name, file in artifact.files.items()
        if name.endswith(".safetensors")
    }


def count_weights(merge: Artifact | None) -> int | None:
    """Return how many weights the merged model has, a tied head counted once."""
    if merge is None or not merge.model_folder.is_dir():
        return None
    return Checkpoint(merge.model_folder).count
