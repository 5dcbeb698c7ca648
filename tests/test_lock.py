"""One process at a time writes into a folder; the next is told who does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgetune.errors import InputError
from edgetune.lock import hold

HOLD = """\
import sys, time
from pathlib import Path
from edgetune.lock import hold
with hold(Path(sys.argv[1]), "this run"):
    print("held", flush=True)
    time.sleep(60)
"""


def start_holder(path: Path) -> subprocess.Popen[str]:
    """Start a process that holds ``path``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), "a recipe.yaml"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_the_second_is_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    process = start_holder(path)
    try:
        with (
            pytest.raises(InputError, match="another edgetune writes this run") as error,
            hold(path, "this run"),
        ):
            raise AssertionError("two held it")
        assert f"process {process.pid} on {os.uname().nodename}" in str(error.value)
        assert "'a recipe.yaml'" in str(error.value)
    finally:
        process.send_signal(signal.SIGKILL)  # however the holder ends, the lock is free
        process.wait()
    with hold(path, "this run"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert not path.exists()


def test_who_waits_gets_it_next(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = start_holder(path)
    said: list[str] = []

    def wait(text: str) -> None:
        said.append(text)
        threading.Timer(0.2, process.kill).start()

    with hold(path, "this cache", wait):
        assert process.wait() == -signal.SIGKILL
    assert len(said) == 1 and f"process {process.pid}" in said[0]


def test_a_lock_removed_while_opening_it_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder removes the file as it ends; who had it open would lock what nobody else sees."""
    from edgetune import lock

    path, first = tmp_path / "lock", []
    real = lock._lock

    def removed_first(file: object) -> bool:
        if not first:
            first.append(file)
            path.unlink()
        return real(file)  # type: ignore[arg-type]

    monkeypatch.setattr(lock, "_lock", removed_first)
    with hold(path, "this run"):
        assert path.exists()
        process = subprocess.run(
            [sys.executable, "-c", HOLD, str(path)], capture_output=True, text=True, check=False
        )
        assert process.returncode == 1 and f"process {os.getpid()}" in process.stderr
