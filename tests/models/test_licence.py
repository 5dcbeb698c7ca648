"""Licences are read from where they are stated, and never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetune.models.licence import NOT_STATED, find_licence


@pytest.mark.parametrize(
    ("file", "text", "name"),
    [
        ("README.md", "---\nlicense: apache-2.0\ntags: [x]\n---\n# A", "apache-2.0"),
        ("README.md", "---\nlicense: other\nlicense_name: qwen-research\n---\n", "qwen-research"),
        ("README.md", "---\nlicense: [mit, cc-by-4.0]\n---\n", "mit, cc-by-4.0"),
        ("config.json", '{"license": "gemma"}', "gemma"),
        ("LICENSE", "\n   Apache License\n   Version 2.0, January 2004\n", "Apache-2.0"),
        ("LICENCE.txt", "MIT License\n\nCopyright", "MIT"),
        ("LICENSE", "My own terms.", "the text of LICENSE"),
        ("SOURCE.txt", "some stories, github.com/a/b, CC-BY-SA-4.0 and MIT.", "CC-BY-SA-4.0, MIT"),
    ],
)
def test_a_stated_licence(tmp_path: Path, file: str, text: str, name: str) -> None:
    (tmp_path / file).write_text(text)
    (tmp_path / "rows.jsonl").write_text("{}")
    for path in (tmp_path, tmp_path / "rows.jsonl"):
        found = find_licence(path)
        assert (found.name, found.said_in) == (name, file)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("README.md", "license: mit, says the text without a head"),
        ("README.md", "---\nlicense: {a: b}\n---\n"),
        ("README.md", "---\n- a\n- : [\n---\n"),
        ("README.md", "---\n!!python/object/apply:os.system [ls]\n---\n"),
        ("config.json", "{broken"),
        ("LICENSE", "  \n"),
        ("SOURCE.txt", "PERMIT and submit"),
    ],
)
def test_anything_else_is_not_stated(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text)
    found = find_licence(tmp_path)
    assert (found.name, found.said_in) == (NOT_STATED, "")


def test_the_more_exact_place_wins(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("MIT License")
    (tmp_path / "README.md").write_text("---\nlicense: gemma\n---\n")
    assert find_licence(tmp_path).name == "gemma"


def test_a_hostile_name_is_one_short_line(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f'---\nlicense: "a\\n---\\n{"b" * 500}"\n---\n')
    found = find_licence(tmp_path).name
    assert "\n" not in found and len(found) == 100
