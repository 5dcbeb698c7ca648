"""What people read on stderr: lines that stand once, and nouns in their number."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from edgetune.log import Log, counted


def test_nouns_have_a_number() -> None:
    said = [counted(0, "token"), counted(1, "token"), counted(2500, "token")]
    assert said == ["0 tokens", "1 token", "2,500 tokens"]
    assert counted(2, "entry", "entries") == "2 entries"


def test_the_last_line_of_a_bar_stands_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 1000, 11))  # every update is due
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    with Log(None, "tune").progress("teacher", 3) as bar:
        for _ in range(3):
            bar.update(1, loss="0.5")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[3] for line in lines] == ["1/3", "2/3", "3/3"]


def test_a_bar_says_its_end_where_no_line_was_due(capsys: pytest.CaptureFixture[str]) -> None:
    with Log(None, "tune").progress("teacher", 3) as bar:
        bar.update(3)
    assert capsys.readouterr().err.count("3/3") == 1


def test_a_narrow_terminal_wraps_no_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Log(None, "tune").progress("teacher", 3) as bar:
        bar.update(3, loss="0.5", speed="1,234 tok/s")
    for drawn in capsys.readouterr().err.replace("\n", "").split("\r\x1b[2K"):
        assert len(drawn) < 40


def test_bitsandbytes_says_nothing_of_a_kernel_that_is_not_used(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    with caplog.at_level(logging.WARNING):
        logger.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s.", "why")
        logger.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]


@pytest.mark.slow
def test_importing_what_trains_is_silent() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import edgetune, peft, bitsandbytes"],
        capture_output=True, text=True, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert "gemm_4bit_forward" not in done.stderr
