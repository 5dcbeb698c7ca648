"""Imports: the contracts of pyproject.toml hold, and what starts the command line is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "edgetune"
HEAVY = {"torch", "transformers", "peft", "trl", "datasets", "onnxruntime", "llama_cpp"}
# Rooms that every command loads, so they import no heavy library at module level.
LIGHT = ["adopt", "api", "artifact", "cli", "disk", "embedded", "errors", "libraries", "lock",
         "log", "naming", "recipe", "rundir", "__init__"]  # fmt: skip


def test_import_contracts_hold() -> None:
    # In a process of its own: import-linter configures logging and disables loggers that exist.
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()",
         "--config", "pyproject.toml", "--no-cache"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_light_modules_import_no_heavy_library() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if _room(path) in LIGHT]
    assert len(files) > 20
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
        names = {a.name.split(".")[0] for n in top if isinstance(n, ast.Import) for a in n.names}
        names |= {str(n.module).split(".")[0] for n in top if isinstance(n, ast.ImportFrom)}
        assert not names & HEAVY, f"{path} imports {names & HEAVY} as it is loaded"


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")
