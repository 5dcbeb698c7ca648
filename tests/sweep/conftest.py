"""A PostgreSQL server of a test's own, and recipes of trials that take seconds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgetune.recipe import Recipe
from edgetune.recipe.load import check_tree
from tests.conftest import write_device_rows


class Server:
    """A server on a socket of its own, which may be stopped and started again."""

    def __init__(self, folder: Path, programs: Path, user: str | None) -> None:
        self.folder, self._programs, self._user = folder, programs, user
        self.url = f"postgresql://postgres@/postgres?host={folder}"
        self._process: subprocess.Popen[bytes] | None = None
        self.run("initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "--no-sync")

    def run(self, program: str, *arguments: str | Path) -> None:
        command = [self._programs / program, *arguments]
        subprocess.run(command, check=True, capture_output=True, user=self._user, cwd=self.folder)

    def start(self) -> None:
        """Start it, and return once it answers."""
        self._process = subprocess.Popen(
            [self._programs / "postgres", "-D", self.folder / "data", "-k", self.folder, "-h", ""],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=self._user, cwd=self.folder,
        )  # fmt: skip
        for _ in range(200):
            ready = [self._programs / "pg_isready", "-h", self.folder]
            if subprocess.run(ready, capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        raise TimeoutError("the server does not answer")

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=30)
            self._process = None


def find_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs; Debian's is not on the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    named = shutil.which("initdb")
    if found:
        return found[0].parent
    return Path(named).parent if named else None


@pytest.fixture
def postgres() -> Iterator[Server]:
    """A server that runs, as another user where the tests are root's: it refuses root."""
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="edgetune-pg-"))
    user = None
    if os.getuid() == 0:
        user = "postgres"
        shutil.chown(folder, user)
    server = Server(folder, programs, user)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def small_tree(model: Path, folder: Path) -> dict[str, Any]:
    """Return a recipe that ends with the tuned model measured, on 36 rows."""
    rows = write_device_rows(folder / "rows.jsonl")
    return {
        "name": "small",
        "model": {"path": str(model), "compute_dtype": "float32"},
        "data": {"train": str(rows), "max_length": 48, "validation_fraction": 0.2},
        "tune": {"method": "lora", "max_steps": 4, "batch_size": 4, "eval_every": 2, "rank": 4,
                 "save_every": 2, "packing": False},
        "bench": {"task_rows": 2, "kl_rows": 2, "max_new_tokens": 2, "prompt_tokens": 4,
                  "new_tokens": 2, "repeats": 1},
        "search": {"tune.learning_rate": {"log": [1e-4, 1e-1]}, "tune.rank": [2, 4, 8],
                   "objectives": ["loss"], "pruner": "none"},
    }  # fmt: skip


@pytest.fixture
def small(tiny_model: Path, tmp_path: Path) -> Recipe:
    return check_tree(small_tree(tiny_model, tmp_path), "small")
