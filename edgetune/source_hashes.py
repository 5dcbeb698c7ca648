"""Content hashes of what a recipe names: they decide whether an artifact is up to date."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgetune.artifact import hash_file, hash_source
from edgetune.data.sources import hash_sources
from edgetune.errors import InputError
from edgetune.models.resolve import resolve_model
from edgetune.models.tokenizer_files import FILES as TOKENIZER_FILES
from edgetune.naming import is_hub_id
from edgetune.recipe import Recipe, TuneSection
from edgetune.recipe.sampling import SAMPLING


def find_sources(recipe: Recipe) -> dict[str, str]:
    """Return the content hashes of the model and data that the recipe names.

    A hub id is known by its name and revision until it is downloaded.
    """
    found = {}
    path = recipe.model.path
    if is_hub_id(path):
        found["model"] = found["tokenizer"] = f"hub:{path}@{recipe.model.revision or 'main'}"
    else:
        base = resolve_model(path)
        found["model"] = hash_source(base)
        found["tokenizer"] = _hash_tokenizer(base)
    data = recipe.data
    for part in ("train", "validation", "test") if data else ():
        name = getattr(data, part)
        if name is not None:
            found[part] = hash_sources(name)
    if data is not None and data.clean.names_model is not None and data.clean.pii != "off":
        found["names_model"] = hash_source(Path(data.clean.names_model))
    if recipe.distill is not None:
        named = {"student": recipe.distill.student.path, "teacher": recipe.distill.teacher}
        for part, folder in named.items():
            if folder is not None and not is_hub_id(folder):
                file = Path(folder)
                found[part] = hash_source(file if file.is_file() else resolve_model(folder))
        config = recipe.distill.student.config
        if config is not None:
            file = Path(config)
            found["student_config"] = hash_source(file / "config.json" if file.is_dir() else file)
        if recipe.distill.prompts is not None:
            found["prompts"] = hash_sources(recipe.distill.prompts)
    if recipe.base_file is not None:
        if not recipe.base_file.is_file():
            raise InputError(
                "no such GGUF file", where=f"tune.base: {recipe.base_file}", hint="check the path"
            )
        found["base_file"] = hash_file(recipe.base_file)
    larger = recipe.bench.prompting.larger if recipe.bench and recipe.bench.prompting else None
    if larger is not None and not is_hub_id(larger):
        found["larger"] = hash_source(resolve_model(larger))
    lists = recipe.bench.fairness.lists if recipe.bench and recipe.bench.fairness else None
    if lists is not None:
        found["fairness_lists"] = hash_source(Path(lists))
    found |= _hash_classifiers(recipe)
    found |= _hash_synthesis(recipe) | _hash_rewards(recipe)
    return found


def _hash_classifiers(recipe: Recipe) -> dict[str, str]:
    """Return one hash of the classifiers that `bench.fairness` names."""
    fairness = recipe.bench.fairness if recipe.bench else None
    folders = [
        hash_source(resolve_model(one.model))
        for one in ((fairness.classifier or {}).values() if fairness else ())
        if not is_hub_id(one.model)
    ]
    digest = hashlib.sha256(" ".join(folders).encode()).hexdigest()
    return {"classifiers": digest} if folders else {}


def _hash_synthesis(recipe: Recipe) -> dict[str, str]:
    """Return the hashes of what the section `synthesize` names."""
    section = recipe.synthesize
    if section is None:
        return {}
    models = {
        "synthesize_teacher": section.teacher,
        "failures_of": section.failures_of,
        "checker": section.validators.checker,
    }
    found = {}
    for part, name in models.items():
        if name is not None and not is_hub_id(name):
            embedded = name.startswith("embedded:")
            found[part] = hash_source(resolve_model(name) if embedded else Path(name))
    if section.prompts is not None:
        found["synthesize_prompts"] = hash_sources(section.prompts)
    if section.validators.json_schema is not None:
        found["json_schema"] = hash_source(Path(section.validators.json_schema))
    return found


def _hash_rewards(recipe: Recipe) -> dict[str, str]:
    """Return one hash of the files that the rewards of a step name."""
    tune = recipe.tune
    if not isinstance(tune, TuneSection) or tune.objective not in SAMPLING:
        return {}
    files = []
    for given in getattr(tune, tune.objective).rewards:
        text = given if isinstance(given, str) else given.reward
        name, _, value = text.partition(":")
        path = Path(name if name.endswith(".py") else value)
        if (name.endswith(".py") or name in ("json_schema", "model")) and path.exists():
            files.append(hash_source(path))
    return {"rewards": hashlib.sha256(" ".join(files).encode()).hexdigest()} if files else {}


def _hash_tokenizer(folder: Path) -> str:
    """Hash a folder's tokenizer, and what says its end tokens and the embedding's size."""
    names = (*TOKENIZER_FILES, "config.json", "generation_config.json")
    files = [folder / name for name in sorted(names) if (folder / name).is_file()]
    parts = [f"{file.name} {hash_file(file)}" for file in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def sources_of(sections: Sequence[str], sources: Mapping[str, str]) -> dict[str, str]:
    """Return the hashes of the files that a stage with these recipe sections itself opens."""
    used = {
        "data": ("train", "validation", "test", "names_model"),
        "model": ("model",),
        "tune": ("base_file", "rewards"),
        "synthesize": (
            "synthesize_teacher", "synthesize_prompts", "failures_of", "checker", "json_schema",
        ),
        "tokenizer": ("tokenizer",),
        "bench": ("larger", "fairness_lists", "classifiers"),
        "distill": ("student", "student_config", "teacher", "prompts"),
    }  # fmt: skip
    names = [name for section in sections for name in used.get(section, ())]
    return {f"source:{name}": sources[name] for name in names if name in sources}
