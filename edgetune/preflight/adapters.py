"""Settings of an adapter that the model, or a file of the adapter alone, has no place for."""

from __future__ import annotations

from pathlib import Path

from edgetune.errors import InputError
from edgetune.models.adapter_modules import check_modules, refuse_tied_ends
from edgetune.models.resolve import resolve_model
from edgetune.models.skeleton import build_on_meta
from edgetune.naming import is_hub_id
from edgetune.recipe import Recipe, Training


def check_named_modules(
    section: Training, path: str | None, where: str, alone: bool = False
) -> None:
    """Refuse names of modules that the model does not have.

    Args:
        section: of the recipe.
        path: of the model; nothing is asked of one that is on a hub or is a file.
        where: the section's name.
        alone: the adapter is to be a file of its own.

    Raises:
        InputError: names the key and the nearest module.
    """
    names = (section.rank_pattern, section.alpha_pattern, section.modules_to_save)
    if not any(names) and section.target_modules == "all-linear":
        return
    if path is None or is_hub_id(path) or Path(path).is_file():
        return
    from transformers import AutoConfig

    folder = resolve_model(path)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    model = build_on_meta(config, str(folder))
    check_modules(model, section, where)
    if alone:
        refuse_tied_ends(model, section, where)


def ships_adapter(recipe: Recipe) -> bool:
    """Whether the adapter of ``tune`` is to be a file of its own."""
    if recipe.export is None or recipe.distill is not None:
        return False
    return recipe.export.adapter or recipe.base_file is not None


def check_base_file(recipe: Recipe) -> None:
    """Refuse a GGUF file that the recipe's model is not, or that cannot be tuned over here.

    Raises:
        InputError: no such file, or one of another model.
        Unsupported: another family, or a type that cannot be read on the device.
    """
    if recipe.base_file is None or is_hub_id(recipe.model.path):
        return
    from edgetune.models.gguf_base import check_types
    from edgetune.models.gguf_match import match_gguf

    found = match_gguf(resolve_model(recipe.model.path), recipe.base_file)
    if recipe.model.device == "cuda":
        check_types(found, "cuda")


def check_adapter_file(recipe: Recipe) -> None:
    """Refuse an adapter to be shipped alone that is more than low-rank factors.

    Raises:
        InputError: names the key of ``tune``, and what to do.
    """
    tuned = recipe.tuned
    if tuned is None or not ships_adapter(recipe):
        return
    whole = "a GGUF or ONNX LoRA file holds low-rank updates only"
    if tuned.dora:
        raise InputError(
            f"DoRA scales each row of the sum of weight and update, and {whole}",
            where="tune.dora",
            hint="set export.adapter: false, which ships the merged model, or leave tune.dora out",
        )
    if tuned.modules_to_save:
        raise InputError(
            f"'{tuned.modules_to_save[0]}' is to be trained whole, and {whole}",
            where="tune.modules_to_save",
            hint="set export.adapter: false, which ships the merged model, or name the module in "
            "tune.target_modules",
        )
