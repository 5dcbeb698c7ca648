"""The page's scripts and data: in the file itself, and nothing else may run or be loaded."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources
from typing import Any

from markupsafe import Markup


def read_script(name: str) -> str:
    """Return a script of this package."""
    return resources.files("edgetune.report").joinpath(name).read_text(encoding="utf-8")


def write_policy(scripts: list[str]) -> str:
    """Return the page's Content-Security-Policy: no network, and no script but these."""
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    allowed = " ".join(f"'sha256-{one}'" for one in hashes) or "'none'"
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )


def embed_json(value: Any) -> Markup:
    """Return a value as JSON that no text in it can end: for a script element of that type."""
    return embed_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def embed_text(text: str) -> Markup:
    """Return JSON text with every ``<``, which occurs in strings alone, as its escape."""
    return Markup(text.replace("<", "\\u003c"))
