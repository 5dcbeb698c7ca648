"""Help, messages, report and docs use the field's terms (CONTRIBUTING.md, "Words")."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The table in CONTRIBUTING.md has the terms to use. A model that votes is the field's judge model.
WORDS = re.compile(
    r"\b(harm(ful|s)?|deciders?|guilty|at fault|on trial|taught|lessons?|manners|lattice|twins?"
    r"|planted|anew|mend(s|ed)?|missed least|makes? up for|(its|the) grid|in place of|parts? ways"
    r"|(?<!LLM )(?<!--)judge(?! models?\b|-|\.py|\.jsonl)|judg(es|ed|ing)|weighed"
    r"|feedback|stands? (in|for|there)|kin|frame"
    r"|(bits|bytes|nats|ms|MB|seconds?|seeds) a (weight|token|layer|row|file|gigabyte))\b",
    re.IGNORECASE,
)
# "file: matched text" -> why it may stand there.
EXCEPTIONS = {
    "edgetune/compare/probes.py: lattice": "prose that models are compared on: ice is a lattice",
}


def read_texts() -> Iterator[tuple[str, str]]:
    """Yield what users read: pages, recipes, templates, help and messages, each with its file."""
    pages = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", ROOT / "mkdocs.yml"]
    pages += [page for page in (ROOT / "docs").rglob("*.md") if page.name != "tree.md"]
    pages += [*(ROOT / "configs").glob("*.yaml"), *(ROOT / "edgetune").rglob("*.j2")]
    for page in pages:
        yield page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8")
    for path in (ROOT / "edgetune").rglob("*.py"):  # the source tree's page has their first lines
        tree = ast.parse(path.read_text(encoding="utf-8"))
        shown = " ".join([ast.get_docstring(tree) or "", *_strings(tree, "cli" in path.parts)])
        yield path.relative_to(ROOT).as_posix(), shown


def _strings(tree: ast.Module, docstrings: bool) -> Iterator[str]:
    """Yield string literals with a space in them; docstrings, which are help in cli/, on demand."""
    skipped = set()
    if not docstrings:
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        skipped = {id(node.body[0].value) for node in ast.walk(tree)
                   if isinstance(node, kinds) and node.body
                   and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in skipped:
            continue
        if isinstance(node.value, str) and " " in node.value:
            yield node.value


def test_user_facing_text_uses_the_terms_of_the_field() -> None:
    found = {f"{file}: {match.group().lower()}" for file, text in read_texts()
             for match in WORDS.finditer(text)}  # fmt: skip
    assert not sorted(found - set(EXCEPTIONS)), "see the table in CONTRIBUTING.md"
    assert not sorted(set(EXCEPTIONS) - found), "these no longer occur: remove their rows"


@pytest.mark.parametrize(
    "text",
    ["the least harmful mix", "4.5 bits a weight", "trained on its grid", "rows that judge it"],
)
def test_a_word_of_the_table_is_found(text: str) -> None:
    assert WORDS.search(text)
