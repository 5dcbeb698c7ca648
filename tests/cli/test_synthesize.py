"""`edgetune synthesize` takes its settings from flags, and refuses before any request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgetune.cli import cli
from edgetune.errors import InputError
from tests.synthesize.servers import completion, serve


def call(*arguments: str) -> str:
    return CliRunner().invoke(cli, ["synthesize", *arguments], catch_exceptions=False).stdout


def test_rows_are_written_by_flags_alone(device_rows: Path, tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []

    def answer(body: dict[str, Any], _: dict[str, str]) -> tuple[int, Any]:
        asked.append(body)
        return 200, completion(f"a new request, number {len(asked)} of many, {len(asked) ** 7}")

    with serve(answer) as address:
        shown = call(
            "--endpoint", address, "--endpoint-model", "small", "--data", str(device_rows),
            "--task", "instructions", "--count", "2", "--temperature", "0.5", "--from", "rows",
            "--out", str(tmp_path / "out"), "--json", "--quiet",
        )  # fmt: skip
    result = json.loads(shown.splitlines()[-1])
    assert result["ok"] and result["facts"]["accepted"] == 2
    assert asked[0]["model"] == "small" and asked[0]["temperature"] == 0.5
    rows = (tmp_path / "out" / "rows.jsonl").read_text().splitlines()
    assert json.loads(rows[1])["origin"]["model"] == "small"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "no teacher is named"),
        (("--endpoint", "http://127.0.0.1:9"), "needs synthesize.model"),
        (("--endpoint", "ftp://h", "--endpoint-model", "m"), "not the address of a server"),
        (
            ("--endpoint", "http://h", "--endpoint-model", "m", "--key-env", "NO_SUCH_KEY"),
            "NO_SUCH_KEY is not set",
        ),
        (("--endpoint", "http://h", "--endpoint-model", "m", "--teacher", "x"), "name one"),
        (("--teacher", "x", "--key-env", "KEY"), "nothing would read it"),
        (("--teacher", "x", "--from", "failures"), "needs failures_of"),
    ],
)
def test_what_cannot_work_is_refused_at_a_dry_run(
    device_rows: Path, flags: tuple[str, ...], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        call("--data", str(device_rows), *flags, "--dry-run")
