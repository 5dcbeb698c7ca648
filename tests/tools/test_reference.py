"""The recipe's and the commands' reference pages are what the code says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from edgetune.cli import COMMANDS
from edgetune.recipe import Recipe
from edgetune.recipe.keys import walk_keys
from tools.reference import PAGES, cli_page, recipe_page, stale


def test_pages_are_up_to_date() -> None:
    # A process of its own: Click keeps a command's help option as its first caller asked for it.
    done = subprocess.run(
        [sys.executable, "-m", "tools.reference", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_an_edited_page_is_stale(tmp_path: Path) -> None:
    for name, make in PAGES.items():
        (tmp_path / name).write_text(make(), encoding="utf-8")
    assert stale(tmp_path) == []
    (tmp_path / "cli.md").write_text("edited")
    (tmp_path / "recipe.md").unlink()
    assert stale(tmp_path) == ["recipe.md", "cli.md"]


def test_every_key_and_command_has_an_entry() -> None:
    recipe, commands = recipe_page(), cli_page()
    schema = json.loads(PAGES["recipe.schema.json"]())
    for key in walk_keys(Recipe):
        section, _, name = key.rpartition(".")
        if key == "report.gates":  # a list of sections
            name = "measurement"
        assert f"| `{name}` |" in recipe, key
        assert section.partition(".")[0] in {"", *schema["properties"]}
    for name in COMMANDS:
        assert f"## edgetune {name}" in commands
