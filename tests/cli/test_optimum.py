"""`optimum-cli export edgetune` is `edgetune export`: listed by optimum, the same bytes."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgetune.artifact import hash_source

pytest.importorskip("optimum.commands.optimum_cli")
ROOT = Path(__file__).parents[2]


def optimum(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from optimum.commands.optimum_cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT
    )


def test_optimum_lists_the_command() -> None:
    shown = optimum("export", "edgetune", "--help")
    assert shown.returncode == 0 and "--precision" in shown.stdout, shown.stderr


def test_same_bytes_as_edgetune_export(tiny_model: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    lines = [f'{{"prompt": "turn on lamp {i}", "completion": "on {i}"}}\n' for i in range(40)]
    rows.write_text("".join(lines))
    given = ("--model", str(tiny_model), "--data", str(rows))
    made = optimum(
        "export", "edgetune", *given, "--format", "gguf", "--precision", "Q8_0",
        str(tmp_path / "a" / "files"),
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    own = [sys.executable, "-m", "edgetune", "export", *given, "--scheme", "Q8_0"]
    subprocess.run([*own, "--out", str(tmp_path / "b" / "files")], check=True)
    for kind in ("gguf",):
        first = tmp_path / "a" / "files" / kind
        assert list(first.iterdir())
        assert hash_source(first) == hash_source(tmp_path / "b" / "files" / kind)


def test_failures_have_edgetunes_words_and_code(tmp_path: Path) -> None:
    made = optimum("export", "edgetune", "--model", str(tmp_path), str(tmp_path / "out"))
    assert made.returncode == 2 and "error" in made.stderr


@pytest.mark.slow
def test_the_wheel_adds_one_file_to_optimums_namespace(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*build, "-w", str(tmp_path), str(ROOT)], check=True)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    ours = [name for name in names if name.startswith("optimum/")]
    assert ours == ["optimum/commands/register/register_edgetune.py"]
