"""Write docs/recipe.md, docs/cli.md and docs/recipe.schema.json from the recipe and the commands.

``python -m tools.reference`` writes them, ``--check`` says which are stale (exit code 1).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from edgetune.cli import cli
from edgetune.recipe import DataSection, Recipe
from edgetune.recipe.aliases import ALIASES
from edgetune.recipe.checks import USES

DOCS = Path(__file__).parents[1] / "docs"
WRITTEN = "<!-- Written by `python -m tools.reference`. -->"


def recipe_page() -> str:
    """Return every key of the recipe with its type, default and meaning, a table per section."""
    lines = [
        "# Recipe", "", WRITTEN, "",
        "A recipe is YAML with one section per stage; a stage whose section is absent is left out. "
        "`${NAME:-default}` is replaced from the environment, and any key can be set by "
        "`--set section.key=value`. `edgetune run RECIPE --dry-run` prints all keys with their "
        "origins. Editors complete and check keys by [recipe.schema.json](recipe.schema.json): "
        "`# yaml-language-server: $schema=PATH` as the first line of the recipe.",
    ]  # fmt: skip
    top = [(name, field) for name, field in Recipe.model_fields.items() if not _section(field)]
    lines += ["", *_table(Recipe, "", [name for name, _ in top])]
    for name, field in Recipe.model_fields.items():
        section = _section(field)
        if section is not None:
            lines += _section_lines(name, section)
    if ALIASES:
        lines += ["", "## Old names", "", "Read for one release, with a warning.", ""]
        lines += ["| old | new |", "|---|---|", *_alias_rows()]
    return "\n".join(lines) + "\n"


def cli_page() -> str:
    """Return the help text of every command."""
    lines = ["# Commands", "", WRITTEN, ""]
    context = click.Context(cli, info_name="edgetune", terminal_width=100, **cli.context_settings)
    for path, command, ctx in _commands(cli, context):
        text = command.get_help(ctx).rstrip()
        lines += [f"## {path}", "", "```text", text, "```", ""]
    return "\n".join(lines)


def schema() -> str:
    """Return the recipe's JSON schema."""
    found = Recipe.model_json_schema()
    found = {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


PAGES = {"recipe.md": recipe_page, "cli.md": cli_page, "recipe.schema.json": schema}


def stale(folder: Path = DOCS) -> list[str]:
    """Return the names of the pages that are not what would be written now."""
    return [
        name
        for name, make in PAGES.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != make()
    ]


def _section(field: Any) -> type[BaseModel] | None:
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
        for item in get_args(candidate):  # of a list of sections
            if isinstance(item, type) and issubclass(item, BaseModel):
                return item
    return None


def _takes_text(annotation: Any) -> bool:
    """Whether a key may be a text too, beside a section, or is a mapping of sections."""
    kinds = get_args(annotation)
    return any(str in (one, *get_args(one)[:1]) or get_origin(one) is dict for one in kinds)


def _section_lines(name: str, section: type[BaseModel]) -> Iterator[str]:
    yield from ("", f"## {name}", "", " ".join((section.__doc__ or "").split()), "")
    inner = {key: _section(field) for key, field in section.model_fields.items()}
    values = [
        key
        for key, found in inner.items()
        if found is None or _takes_text(section.model_fields[key].annotation)
    ]
    yield from _table(section, f"{name}.", values)
    for number, (key, found) in enumerate(inner.items()):
        if found is None or (key in values and found in list(inner.values())[:number]):
            continue  # a section that several keys take is told once
        if found is DataSection:  # the rows of a step are described as those of the recipe
            continue
        yield from _section_lines(f"{name}.{key}", found)


def _table(section: type[BaseModel], prefix: str, names: list[str]) -> Iterator[str]:
    if not names:
        return
    shapes = section.model_json_schema(ref_template="{model}")["properties"]
    yield from ("| key | value | default | meaning |", "|---|---|---|---|")
    for name in names:
        field = section.model_fields[name]
        meaning = field.description or ""
        use = USES.get(f"{prefix}{name}")
        if use is not None:
            meaning += f"; read with {use.when}" if meaning else f"read with {use.when}"
        cells = (f"`{name}`", _kind(shapes[name]), _default(field), meaning)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _kind(shape: dict[str, Any]) -> str:
    if "$ref" in shape:
        return "mapping"
    if "enum" in shape:
        return ", ".join(f"`{value}`" for value in shape["enum"])
    if "const" in shape:
        return f"`{shape['const']}`"
    if "anyOf" in shape:
        kinds = [_kind(one) for one in shape["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if shape.get("type") == "array":
        return f"list of {_kind(shape['items'])}"
    names = {"string": "text", "integer": "integer", "number": "number", "boolean": "true, false",
             "object": "mapping"}  # fmt: skip
    kind = names.get(str(shape.get("type")), str(shape.get("type")))
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return " ".join([kind, *(f"{sign} {shape[k]:g}" for k, sign in limits.items() if k in shape)])


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "needed"
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`"


def _alias_rows() -> Iterator[str]:
    for alias in ALIASES:
        if not alias.values:
            yield f"| `{alias.old}` | `{alias.new}` |"
        for old, new in alias.values.items():
            shown = f"`{alias.new}: {new}`" if isinstance(new, str | int | float) else "(left out)"
            yield f"| `{alias.old}: {str(old).lower()}` | {shown} |"


def _commands(
    group: click.Group, context: click.Context
) -> Iterator[tuple[str, click.Command, click.Context]]:
    yield context.command_path, group, context
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, context, info_name=name)
        if isinstance(command, click.Group):
            yield from _commands(command, inner)
        else:
            yield inner.command_path, command, inner


def main() -> None:
    """Write the pages, or say which are stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if one is stale")
    old = stale()
    if parser.parse_args().check:
        if old:
            sys.exit(f"stale: {', '.join(old)}; run python -m tools.reference")
        return
    for name in old:
        (DOCS / name).write_text(PAGES[name](), encoding="utf-8")
        sys.stdout.write(f"docs/{name}\n")


if __name__ == "__main__":
    main()
