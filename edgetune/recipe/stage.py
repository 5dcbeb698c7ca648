"""The recipe of one stage, from a command's flags or a function's settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgetune.errors import InputError, nearest
from edgetune.recipe.load import check_tree, load_recipe
from edgetune.recipe.quantization import GGUF_SCHEMES, ONNX_SCHEMES
from edgetune.recipe.schema import Recipe

#: Settings that all stages share, and their recipe keys.
SHARED = {
    "model": "model.path",
    "device": "model.device",
    "data": "data.train",
    "validation": "data.validation",
    "test": "data.test",
    "max_length": "data.max_length",
    "seed": "seed",
}


def stage_recipe(
    stage: str, recipe: Path | None, overrides: Sequence[str], settings: Mapping[str, Any]
) -> tuple[Recipe, dict[str, str]]:
    """Return the recipe of one stage: file, then settings, then ``--set``.

    Args:
        stage: name of the stage.
        recipe: YAML file; ``None`` starts from nothing.
        overrides: ``section.key=value`` texts.
        settings: those of :data:`SHARED` go to their sections, the rest to the stage's own.
    """
    dotted = {SHARED.get(name, f"{stage}.{name}"): value for name, value in settings.items()}
    if stage not in Recipe.model_fields:  # prepare reads the section `data`
        return load_recipe(recipe, overrides, dotted)
    if recipe is None and not any(text.startswith(f"{stage}.") for text in overrides):
        dotted.setdefault(stage, None)
    found, origins = load_recipe(recipe, overrides, dotted)
    if getattr(found, stage, None) is None:
        tree = {**found.model_dump(mode="json", exclude_unset=True), stage: {}}
        found = check_tree(tree, str(recipe or "the flags")).with_renamed(found.renamed)
    return found, origins


def scheme_settings(schemes: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides that ask for the files of ``schemes``; none asks for the default.

    Raises:
        InputError: no such scheme.
    """
    if not schemes:
        return ()
    known = (*GGUF_SCHEMES, *ONNX_SCHEMES)
    for scheme in schemes:
        if scheme not in known:
            raise InputError(f"no scheme '{scheme}'{nearest(scheme, known)}", where="--scheme")
    gguf = ", ".join(s for s in schemes if s in GGUF_SCHEMES)
    onnx = ", ".join(s for s in schemes if s in ONNX_SCHEMES)
    return (f"quantize.gguf=[{gguf}]", f"quantize.onnx=[{onnx}]")


def synthesize_settings(settings: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the settings of `synthesize`, and overrides for what other settings share a name with.

    The stage reads no base model, which every recipe names: the embedded one is put there.
    """
    flags = dict(settings)
    name = flags.pop("endpoint_model", None)
    if flags.get("recipe") is None:
        flags["model"] = flags.get("model") or "embedded:base"
    return flags, () if name is None else (f"synthesize.model={name}",)
