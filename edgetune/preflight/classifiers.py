"""Classifiers of answers: there before any work, whole, and with the label that is to count."""

from __future__ import annotations

from edgetune.errors import InputError
from edgetune.models.classifier import describe_classifier
from edgetune.models.resolve import find_local, resolve_model
from edgetune.naming import is_hub_id
from edgetune.recipe.fairness import ClassifierSection, FairnessSection


def check_classifiers(section: FairnessSection, said: list[str]) -> None:
    """Refuse classifiers that are not there or lack their label.

    Args:
        section: names them.
        said: gets a line for each that will be fetched from the hub.

    Raises:
        InputError: names the key.
    """
    for name, one in (section.classifier or {}).items():
        where = f"bench.fairness.classifier.{name}"
        try:
            _check(one, where, said)
        except InputError as error:
            if error.where.startswith(where):
                raise
            place = f"{where}.model: {error.where or one.model}"
            raise InputError(error.what, where=place, hint=error.hint) from error


def _check(one: ClassifierSection, where: str, said: list[str]) -> None:
    from huggingface_hub.constants import HF_HUB_OFFLINE

    folder = find_local(one.model) if is_hub_id(one.model) else resolve_model(one.model)
    if folder is not None:
        describe_classifier(folder, one.label, where)
    elif HF_HUB_OFFLINE:
        raise InputError(
            "no such folder here, nor a model of that name in the hub's cache (HF_HUB_OFFLINE is "
            "set)",
            where=one.model, hint="name a folder",
        )  # fmt: skip
    else:
        said.append(f"{where}: {one.model} is no folder here; it is fetched from the hub")
