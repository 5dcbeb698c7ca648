"""Modules that a recipe names for an adapter: found in the model, or refused with the nearest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from transformers.pytorch_utils import Conv1D

from edgetune.errors import InputError, nearest
from edgetune.models.nf4 import is_packed
from edgetune.recipe import Training

N = TypeVar("N")


def check_modules(model: Any, section: Training, where: str) -> None:
    """Refuse names of modules, and patterns of names, that match none of the model's.

    Args:
        model: before the adapter is added; weights may be on the meta device.
        section: of the recipe.
        where: its name.

    Raises:
        InputError: names the key, and the nearest name.
    """
    named = {name: one for name, one in model.named_modules() if name}
    fitting = [name for name, one in named.items() if takes_adapter(one)]
    if section.target_modules != "all-linear":
        _check_names(section.target_modules, fitting, f"{where}.target_modules")
    _check_names(section.modules_to_save, list(named), f"{where}.modules_to_save")
    for key in ("rank_pattern", "alpha_pattern"):
        for pattern in getattr(section, key):
            _check_pattern(pattern, fitting, f"{where}.{key}")
    if section.target_modules != "all-linear":
        twice = sorted({*section.target_modules} & {*section.modules_to_save})
        if twice:
            raise InputError(
                f"'{twice[0]}' is in target_modules too: it would be trained twice",
                where=f"{where}.modules_to_save",
                hint="name it once",
            )
    if section.init == "pissa":
        _refuse_tied(model, named, section, where)


def takes_adapter(module: Any) -> bool:
    """Whether PEFT puts LoRA on such a layer."""
    kinds = (torch.nn.Linear, torch.nn.Embedding, Conv1D)
    return isinstance(module, kinds) or is_packed(module)


def find_targets(model: Any, section: Training) -> list[str]:
    """Return the names of the modules that get an adapter."""
    ends, head = section.target_modules, model.get_output_embeddings()
    return [
        name
        for name, one in model.named_modules()
        if takes_adapter(one)
        and (
            not isinstance(one, torch.nn.Embedding) and one is not head
            if ends == "all-linear"
            else any(ends_with(name, end) for end in ends)
        )
    ]


def ends_with(name: str, end: str) -> bool:
    """Whether a module is called ``end``, or is the last part of its name."""
    return name == end or name.endswith(f".{end}")


def match_patterns(patterns: Mapping[str, N], names: Iterable[str]) -> dict[str, N]:
    """Return the value of each module that a pattern fits: that of the longest one.

    Args:
        patterns: regular expressions for the ends of names, as PEFT reads them.
        names: of modules.
    """
    found = {}
    longest_first = sorted(patterns, key=lambda pattern: (-len(pattern), pattern))
    for name in names:
        for pattern in longest_first:
            if re.match(rf"(.*\.)?({pattern})$", name):
                found[name] = patterns[pattern]
                break
    return found


def trains_head(model: Any, section: Training) -> bool:
    """Whether an adapter of these settings changes the model's head."""
    return bool(_trained_ends(model, section) & {"head"})


def _trained_ends(model: Any, section: Training) -> set[str]:
    """Return which of ``head`` and ``embedding`` an adapter of these settings changes."""
    ends = {"head": model.get_output_embeddings(), "embedding": model.get_input_embeddings()}
    targets = [] if section.target_modules == "all-linear" else section.target_modules
    chosen = [*section.modules_to_save, *targets]
    return {
        end
        for end, module in ends.items()
        for name, one in model.named_modules()
        if one is module and any(ends_with(name, each) for each in chosen)
    }


def refuse_tied_ends(model: Any, section: Training, where: str) -> None:
    """Refuse an adapter that is to be a file of its own and trains one end of tied embeddings.

    A GGUF file of the base has one tensor for both, and what is added to it is added to both.

    Raises:
        InputError: says what to do.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    tied = head is not None and head.weight is embedding.weight
    found = sorted(_trained_ends(model, section)) if tied else []
    if found:
        raise InputError(
            f"the {found[0]} is one tensor with the other end of this model, so a file of the "
            "adapter alone would change both",
            where=f"{where}.target_modules",
            hint="set export.adapter: false, which ships the merged model, or leave it out",
        )


def _check_names(wanted: Sequence[str], names: Sequence[str], where: str) -> None:
    for end in wanted:
        if not any(ends_with(name, end) for name in names):
            raise _absent(end, names, where)


def _check_pattern(pattern: str, names: Sequence[str], where: str) -> None:
    try:
        found = any(re.match(rf"(.*\.)?({pattern})$", name) for name in names)
    except re.error as error:
        raise InputError(f"'{pattern}' is no regular expression: {error}", where=where) from error
    if not found:
        raise _absent(pattern, names, where)


def _absent(end: str, names: Iterable[str], where: str) -> InputError:
    """Return the error, with the nearest of the names' last parts, or of the names."""
    last = dict.fromkeys(name.rpartition(".")[2] for name in names)
    words = sorted(word for word in last if not word.isdecimal())
    return InputError(
        f"no such module in this model: '{end}'{nearest(end, words) or nearest(end, names)}",
        where=where,
        hint=f"it has {', '.join(words)}",
    )


def _refuse_tied(model: Any, named: dict[str, Any], section: Training, where: str) -> None:
    """PiSSA over one end of tied embeddings would take its start off the other end too."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if (
        section.target_modules == "all-linear"
        or head is None
        or head.weight is not embedding.weight
    ):
        return
    for name, one in named.items():
        chosen = any(ends_with(name, end) for end in section.target_modules)
        if chosen and (one is head or one is embedding):
            raise InputError(
                f"init: pissa over '{name}', whose weight is embedding and head at once",
                where=f"{where}.init",
                hint="leave it out of target_modules, or use init: default",
            )
