"""docs/tree.md has a line for every file; ``python -m tests.test_tree`` writes it anew."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tree.md"


def write_page() -> str:
    """Return the page: folders by name, files with the first sentence of their docstring."""
    lines = ["# The tree, a line a file", ""]
    for folder in sorted({path.parent for path in (ROOT / "edgetune").rglob("*.py")}):
        lines += [f"## {folder.relative_to(ROOT)}/", "", "| file | what it is |", "|---|---|"]
        for path in sorted(folder.glob("*.py")):
            said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            if said:
                first = " ".join(said.split("\n\n")[0].split()).replace("|", "\\|")
                link = f"../{path.relative_to(ROOT)}"
                lines.append(f"| [`{path.name}`]({link}) | {first} |")
        lines.append("")
    return "\n".join(lines)


def test_the_tree_is_as_the_page_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == write_page(), "python -m tests.test_tree"


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
