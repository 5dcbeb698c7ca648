"""MkDocs hook: a link from docs/ to a file elsewhere in the repository becomes its name as text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"(?<!!)\[([^\]\n]+)\]\(([^)#\s]+)(#[^)]*)?\)")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Return the page with links that leave docs/ as text.

    Raises:
        FileNotFoundError: such a link names no file of the repository.
    """
    docs = Path(config["docs_dir"]).resolve()
    here = docs / Path(page.file.src_uri).parent

    def replace(match: re.Match[str]) -> str:
        text, target = match.group(1), match.group(2)
        if "://" in target:
            return match.group(0)
        path = (here / target).resolve()
        if docs in path.parents:
            return match.group(0)
        if not path.exists():
            raise FileNotFoundError(f"{page.file.src_uri} links to {target}, which does not exist")
        return text

    return _LINK.sub(replace, markdown)
