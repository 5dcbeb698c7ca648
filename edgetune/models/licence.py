"""The licence that a model or data states: read from the files beside it, never guessed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edgetune.errors import InputError
from edgetune.models.resolve import read_json

NOT_STATED = "not stated"
_READ = 20_000  # characters of a file that are looked at
# What the first lines of a licence's text say, and its SPDX identifier (https://spdx.org/licenses).
_TEXTS = (
    (r"Apache License\s+Version 2\.0", "Apache-2.0"),
    (r"MIT License|Permission is hereby granted, free of charge", "MIT"),
    (r"GNU AFFERO GENERAL PUBLIC LICENSE\s+Version 3", "AGPL-3.0"),
    (r"GNU GENERAL PUBLIC LICENSE\s+Version 3", "GPL-3.0"),
    (r"Attribution-ShareAlike 4\.0 International", "CC-BY-SA-4.0"),
    (r"Attribution-NonCommercial 4\.0 International", "CC-BY-NC-4.0"),
    (r"Attribution 4\.0 International", "CC-BY-4.0"),
    (r"CC0 1\.0 Universal", "CC0-1.0"),
)
_NAMES = re.compile(
    r"\b(Apache-2\.0|MIT|BSD-[23]-Clause|CC0-1\.0|CC-BY(?:-[A-Z]+)*-[234]\.0|A?GPL-[23]\.0|MPL-2\.0"
    r"|CDLA-Permissive-[12]\.0|CDLA-Sharing-1\.0|ODC-By-1\.0)\b"
)


@dataclass(frozen=True)
class Licence:
    """A licence and the file that states it; ``not stated`` and an empty string where none does."""

    name: str
    said_in: str


def find_licence(path: Path) -> Licence:
    """Return what the files in a folder, or beside a file, say of its licence.

    In this order: the front matter of README.md, ``license`` in config.json, the text of LICENSE, a
    known licence's name in SOURCE.txt.
    """
    folder = path if path.is_dir() else path.parent
    looked = (
        ("README.md", _front_matter),
        ("config.json", _config),
        *((file.name, _text) for file in sorted(folder.glob("LICEN[CS]E*"))),
        ("SOURCE.txt", _named),
    )
    for name, look in looked:
        file = folder / name
        found = look(file) if file.is_file() else None
        if found:
            return Licence(found, name)
    return Licence(NOT_STATED, "")


def _front_matter(file: Path) -> str | None:
    """``license`` of the YAML between two lines of dashes; ``license_name`` where that is other."""
    match = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", _read(file), re.DOTALL)
    try:
        head: Any = yaml.safe_load(match[1]) if match else None
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    if not isinstance(head, dict):
        return None
    name = head.get("license")
    if name == "other":
        name = head.get("license_name") or name
    return _one_line(name)


def _config(file: Path) -> str | None:
    try:
        return _one_line(read_json(file, "a model folder has one").get("license"))
    except InputError:
        return None


def _text(file: Path) -> str | None:
    start = _read(file)
    found = next((name for text, name in _TEXTS if re.search(text, start, re.IGNORECASE)), None)
    return found or (f"the text of {file.name}" if start.strip() else None)


def _named(file: Path) -> str | None:
    names = dict.fromkeys(_NAMES.findall(_read(file)))
    return ", ".join(names) or None


def _read(file: Path) -> str:
    with file.open(encoding="utf-8", errors="replace") as stream:
        return stream.read(_READ)


def _one_line(value: Any) -> str | None:
    if isinstance(value, list):
        value = ", ".join(str(one) for one in value)
    text = " ".join(value.split())[:100] if isinstance(value, str) else ""
    return text or None
