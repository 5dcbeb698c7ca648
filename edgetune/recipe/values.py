"""The values of a recipe: YAML with a few rules of ours, and the texts of ``--set``."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from edgetune.errors import InputError
from edgetune.recipe.schema import Recipe

# A second dollar sign keeps what follows as it is written.
_VARIABLE = re.compile(r"\$(\$?)\{(?:(\w+)(?::-([^${}]*))?\})?")


class Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, where YAML would keep the last in silence.

    It looks while nodes are composed: what a merge key (``<<``) brings in is no repetition.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in seen:
                line = key_node.start_mark.line + 1
                more = "; merge several as <<: [*a, *b]" if key == "<<" else ""
                raise yaml.MarkedYAMLError(
                    problem=f"the key '{key}' is given twice (line {line}){more}"
                )
            seen.add(key)
        return node


def find_merged(text: str) -> set[str]:
    """Return the dotted names of the keys that YAML's merge key (``<<``) brings into a recipe."""
    found: set[str] = set()

    def walk(node: yaml.Node, prefix: str) -> None:
        if not isinstance(node, yaml.MappingNode):
            return
        written = {str(key.value) for key, _ in node.value}
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
                found.update(f"{prefix}{name}" for name in _names(sources) - written)
            else:
                walk(value, f"{prefix}{key.value}.")

    root = yaml.compose(text, Loader)
    if root is not None:
        walk(root, "")
    return found


def _names(mappings: Sequence[yaml.Node]) -> set[str]:
    """The keys of mappings, of those merged into them too."""
    found: set[str] = set()
    for mapping in mappings:
        for key, value in mapping.value:
            if key.tag == "tag:yaml.org,2002:merge":
                inner = value.value if isinstance(value, yaml.SequenceNode) else [value]
                found |= _names(inner)
            else:
                found.add(str(key.value))
    return found


def read_setting(key: str, written: str) -> Any:
    """Return the value of ``--set key=written``, text as it is written.

    Raises:
        InputError: not YAML, or nothing but a comment.
    """
    where = f"--set {key}"
    try:
        written.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError("the value is not UTF-8 text", where=where) from error
    kinds = _kinds_of(key)
    opening = written.lstrip()[:1]
    structured = (opening == "[" and tuple in kinds) or (opening == "{" and _has_section(kinds))
    if str in kinds and not structured:
        bare = written.strip()
        if bare in ("", "null") and type(None) in kinds:
            return None
        if not bare:
            raise InputError("the value is empty", where=where)
        return expand(_unquote(bare), where)
    try:
        value = yaml.load(expand(written, where), Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(
            f"'{written}' is not a YAML value",
            where=where,
            hint=f"a list is written --set '{key}=[a, b]', signs of YAML in it in quotes",
        ) from error
    if value is None and written.strip() not in ("", "null", "~"):
        raise InputError(
            f"'{written}' is a comment to YAML",
            where=where,
            hint=f"write --set '{key}=VALUE' without #; null takes the default",
        )
    return value


def expand(text: str, where: str) -> str:
    """Return the text with ``${NAME}`` and ``${NAME:-default}`` replaced from the environment.

    Raises:
        InputError: a variable that is not set and has no default, or another form of ``${``.
    """

    def replace(match: re.Match[str]) -> str:
        dollar, name, default = match.groups()
        if dollar:
            return match[0][1:]
        found = os.environ.get(name or "")
        if name and (found or default is not None):
            return found or str(default)
        if name and found is not None:
            return found
        raise InputError(
            f"the variable {name} is not set"
            if name
            else f"'{text[match.start() :]}' is not ${{NAME}} or ${{NAME:-default}}",
            where=where,
            hint=f"export {name}=…, or give a default: ${{{name}:-…}}; $${{ is a plain ${{"
            if name
            else "$${ is a plain ${",
        )

    return _VARIABLE.sub(replace, text)


def section_of(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _kinds_of(key: str) -> set[Any]:
    """Return what the key's value may be: ``str`` for text or one of named words, ``tuple``, …"""
    model: type[BaseModel] | None = Recipe
    annotation: Any = None
    for part in key.split("."):
        field = model.model_fields.get(part) if model else None
        if field is None:
            return set()
        annotation = field.annotation
        model = section_of(annotation)
    return _flatten(annotation)


def _has_section(kinds: set[Any]) -> bool:
    return any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds)


def _flatten(annotation: Any) -> set[Any]:
    origin = get_origin(annotation)
    if origin is Literal:
        return {type(value) for value in get_args(annotation)}
    if origin is Annotated:
        return _flatten(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return set().union(*(_flatten(one) for one in get_args(annotation)))
    return {origin or annotation}


def _unquote(text: str) -> str:
    """Return the text inside quotes, where the whole text is one quoted YAML value."""
    if text[:1] in ("'", '"'):
        with suppress(yaml.YAMLError):
            node = yaml.compose(text, yaml.SafeLoader)
            if isinstance(node, yaml.ScalarNode) and node.end_mark.index == len(text):
                return str(node.value)
    return text
