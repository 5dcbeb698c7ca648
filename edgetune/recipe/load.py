"""Read a recipe from YAML and flags, and write it back with the origin of every value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel, ValidationError

from edgetune.errors import InputError, nearest
from edgetune.recipe.aliases import apply_aliases, rename_key
from edgetune.recipe.checks import find_unread
from edgetune.recipe.schema import Recipe
from edgetune.recipe.search import SearchSection
from edgetune.recipe.values import Loader, expand, find_merged, read_setting, section_of


def load_recipe(
    path: Path | None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> tuple[Recipe, dict[str, str]]:
    """Read ``path``, lay ``flags`` over it, then ``overrides``.

    Args:
        path: YAML file; ``None`` starts from nothing.
        overrides: ``section.key=value`` texts of ``--set``. Where the key holds text, the value is
            kept as it is written (but for quotes around it); elsewhere it is parsed as YAML.
        flags: dotted key to value, from command-line flags; ``None`` values are left out.

    Returns:
        The recipe and the origin of every value that is not a default, by dotted key.

    Raises:
        InputError: unreadable file, unknown key, value out of range, variable that is not set.
    """
    tree = read_tree(path) if path else {}
    where = str(path or "the flags")
    renamed = apply_aliases(tree, where)
    origins = {key: str(path) for key, _ in _leaves(tree)}
    settings = {key: value for key, value in (flags or {}).items() if value is not None}
    renamed += _overlay(tree, origins, settings, "flag")
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"'{text}' has no '='", where="--set", hint="write section.key=value")
        key = key.strip()
        renamed += _overlay(tree, origins, {key: read_setting(rename_key(key), value)}, "--set")
    recipe = check_tree(tree, where)
    # What several sections share is written once; each takes of it what it reads.
    shared = find_merged(path.read_text(encoding="utf-8")) if path else set()
    shared = {rename_key(key) for key in shared}
    unread = [k for k in find_unread(recipe) if k in shared and origins.get(k) == str(path)]
    if unread:
        for key in unread:
            _drop(tree, key)
            origins.pop(key)
        recipe = check_tree(tree, where)
    return recipe.with_renamed(renamed), origins


def read_tree(path: Path) -> dict[str, Any]:
    """Read YAML into plain values, with ``${NAME:-default}`` replaced."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise InputError(
            f"cannot read the recipe: {reason}", where=str(path), hint="`edgetune init` writes one"
        ) from error
    try:
        tree = yaml.load(text, Loader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InputError(
            f"not valid YAML: {getattr(error, 'problem', error)}", where=where
        ) from error
    if not isinstance(tree, dict):
        raise InputError("a recipe is a mapping of sections", where=str(path))
    try:
        return cast(dict[str, Any], _expand_tree(tree, str(path), ""))
    except RecursionError as error:  # an anchor inside itself
        raise InputError("not valid YAML: a value contains itself", where=str(path)) from error


def check_tree(tree: dict[str, Any], where: str) -> Recipe:
    """Validate plain values as a recipe, with errors that name the key."""
    _refuse_unknown(tree, Recipe, where, "")
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        errors = error.errors()
        # A value of several kinds has an error for each: the one that went deepest says most.
        same = [one for one in errors if _shares_key(one["loc"], errors[0]["loc"])]
        first = max(same, key=lambda one: (len(one["loc"]), one["type"] == "value_error"))
        key = ".".join(str(part) for part in first["loc"] if _is_key(part))
        if first["type"] == "value_error":  # of a section as a whole, in our own words
            raise InputError(str(first["ctx"]["error"]), where=f"{where}:{key}") from error
        given = "" if first["type"] == "missing" else f" (given: {first['input']!r})"
        raise InputError(
            f"{first['msg']}{given}", where=f"{where}:{key}", hint=_quoting(first["type"], key)
        ) from error


def dump_recipe(recipe: Recipe, origins: Mapping[str, str]) -> str:
    """Write the resolved recipe as YAML, each value with its origin as a comment."""
    lines: list[str] = []

    def walk(values: Mapping[str, Any], prefix: str, indent: str) -> None:
        for key, value in values.items():
            name = f"{prefix}{key}"
            if isinstance(value, dict) and value:
                lines.append(f"{indent}{key}:")
                walk(value, f"{name}.", indent + "  ")
                continue
            plain = _escape(value)
            shown = yaml.safe_dump(plain, default_flow_style=True, width=10**6).strip()
            shown = shown.removesuffix("...").strip()
            origin = origins.get(name) or next(
                (o for k, o in origins.items() if name.startswith(f"{k}.")), "default"
            )
            lines.append(f"{indent}{key}: {shown}  # {origin}")

    walk(recipe.model_dump(mode="json"), "", "")
    return "\n".join(lines) + "\n"


def _shares_key(place: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether two errors are of one value: their first two keys are equal, as far as they go."""
    ours, theirs = ([part for part in one if _is_key(part)][:2] for one in (place, other))
    return all(a == b for a, b in zip(ours, theirs, strict=False))


def _is_key(part: int | str) -> bool:
    """Whether a part of an error's place is a key or a number, and not the name of a kind."""
    return isinstance(part, int) or (part.isidentifier() and part == part.lower())


def _quoting(fault: str, key: str) -> str:
    """Say how a value is written that YAML took for another kind."""
    last = key.rpartition(".")[2]
    if fault == "string_type":
        return (
            "text that YAML reads as a number, date, truth value, list or map needs quotes: "
            f"{last}: '…'"
        )
    if fault == "tuple_type":
        return f"a list: {last}: […, …], or --set '{key}=[…, …]'"
    return ""


def _expand_tree(value: Any, where: str, key: str) -> Any:
    if isinstance(value, str):
        return expand(value, f"{where}:{key}")
    if isinstance(value, dict):
        return {
            name: _expand_tree(item, where, f"{key}.{name}" if key else str(name))
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_expand_tree(item, where, key) for item in value]
    return value


def _escape(value: Any) -> Any:
    """Return plain values with ``${`` written so that reading them expands nothing."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, dict):
        return {key: _escape(item) for key, item in value.items()}
    return [_escape(item) for item in value] if isinstance(value, list | tuple) else value


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        found += (
            _leaves(value, f"{name}.") if isinstance(value, dict) and value else [(name, value)]
        )
    return found


def put_value(tree: dict[str, Any], key: str, value: Any, origin: str) -> None:
    """Set a dotted key of a recipe's plain values, with the sections around it.

    Raises:
        InputError: it names no key, or no step of a list.
    """
    *parents, last = _split_key(key)
    node: Any = tree
    for part in parents:
        if isinstance(node, list):
            node = _item(node, part, key, origin)
            continue
        if "data" in tree and node is tree["data"] and isinstance(node.get(part), str):
            node[part] = {"path": node[part]}  # a path alone is short for a source
        steps = part == "tune" and isinstance(node.get(part), list)
        if not isinstance(node.get(part), dict) and not steps:
            node[part] = {}
        node = node[part]
    if isinstance(node, list):
        raise InputError(f"'{key}' names no key of one of the steps", where=origin)
    if not last:
        raise InputError(f"'{key}' is not a recipe key", where=origin)
    node[last] = value


def _item(items: list[Any], part: str, key: str, origin: str) -> Any:
    """Return the item of a list that a part of a key names by its number, from 0 on."""
    if part.isdigit() and int(part) < len(items) and isinstance(items[int(part)], dict):
        return items[int(part)]
    name = key.partition(f".{part}")[0]
    raise InputError(
        f"{name} has {len(items)} steps, and '{key}' names none of them",
        where=origin,
        hint=f"write {name}.0 for the first",
    )


def _split_key(key: str) -> list[str]:
    """Split a dotted key; one that `search` varies is one key of that section."""
    first, _, rest = key.partition(".")
    own = rest.partition(".")[0] in SearchSection.model_fields
    return key.split(".") if first != "search" or own else [first, rest]


def _overlay(
    tree: dict[str, Any], origins: dict[str, str], settings: Mapping[str, Any], origin: str
) -> list[str]:
    """Lay dotted keys over a tree, old names renamed; return the warnings of these."""
    given: dict[str, Any] = {}
    for key, value in settings.items():
        put_value(given, key, value, origin)
    warnings = apply_aliases(given, origin)
    for key, value in _leaves(given) if warnings else settings.items():
        put_value(tree, key, value, origin)
        origins[key] = origin
    return warnings


def _drop(tree: dict[str, Any], key: str) -> None:
    *parents, last = key.split(".")
    for part in parents:
        tree = tree[part]
    del tree[last]


def _refuse_unknown(tree: Mapping[Any, Any], model: type[BaseModel], where: str, at: str) -> None:
    for key, value in tree.items():
        field = model.model_fields.get(str(key))
        if field is None and model is SearchSection and "." in str(key):
            continue  # a searched key, which `edgetune.recipe.trial` checks
        if field is None:
            raise InputError(
                f"unknown key '{at}{key}'{nearest(str(key), model.model_fields)}",
                where=where,
                hint=f"keys here: {', '.join(model.model_fields)}",
            )
        section = section_of(field.annotation)
        if section is None:
            continue
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                _refuse_unknown(item, section, where, f"{at}{key}.")
