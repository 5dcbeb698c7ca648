"""Names of models: what a path or a hub id says, and what files made of it are called."""

from __future__ import annotations

import re
from pathlib import Path

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
# Folders that say what lies in them and not which model: of merges, exports and the hub's cache.
_SAYS_NOTHING = re.compile(
    r"(model|models|merged|hf|checkpoint|snapshots|out|output|outputs)|merge-[0-9a-f]{8}"
    r"|[0-9a-f]{40}",
    re.IGNORECASE,
)


def clean_name(text: str, otherwise: str) -> str:
    """Return ``text`` as a name that every file system and shell takes, else ``otherwise``."""
    kept = "".join(c if (c.isascii() and c.isalnum()) or c in "._-" else "-" for c in text)
    return kept.strip("._-") or otherwise


def name_model(path: str, otherwise: str = "model") -> str:
    """Return what a model is called: of a folder, ``embedded:NAME`` or a hub id.

    The nearest folder whose name says something: ``runs/lamps/merge-0123abcd/model`` is "lamps".
    """
    if path.startswith("embedded:"):
        return clean_name(path.removeprefix("embedded:"), otherwise)
    for part in reversed(Path(path).expanduser().absolute().parts):
        part = part.rpartition("--")[2] if part.startswith("models--") else part
        if part not in ("/", ".", "..") and not _SAYS_NOTHING.fullmatch(part):
            return clean_name(part, otherwise)
    return otherwise


def is_hub_id(path: str) -> bool:
    """Whether ``path`` would be looked up on the model hub."""
    return not path.startswith("embedded:") and not Path(path).exists() and bool(HUB_ID.match(path))
