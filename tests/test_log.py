"""What people read on stderr: lines that stand once, and nouns in their number."""

from __future__ import annotations

import logging
import os
import re
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


def draw_on_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw a bar of three steps, and write a line while it is on the terminal."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    log = Log(None, "tune")
    with log.progress("teacher", 3) as bar:
        log.say("x")
        bar.update(3, loss="[0.5]", speed="1,234 tok/s")


@pytest.mark.parametrize("columns", [20, 40, 60, 120])
def test_a_narrow_terminal_wraps_no_bar(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_on_terminal(columns, monkeypatch)
    drawn = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", capsys.readouterr().err)
    lines = [line for line in re.split(r"[\r\n]+", drawn) if line]
    assert max(map(len, lines)) <= columns
    # One line per drawing: start, after the line, update, stop.
    assert sum(line.startswith("tune      t") for line in lines) <= 4


def test_a_bar_on_a_terminal_shows_count_and_fields(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_on_terminal(120, monkeypatch)
    drawn = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", capsys.readouterr().err)
    assert "3/3 loss [0.5]  speed 1,234 tok/s" in drawn
    assert "tune      x" in drawn.splitlines()[0] + drawn.splitlines()[1]


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
