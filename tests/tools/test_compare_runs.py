"""Two runs are equal apart from names, places and times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tools.compare_runs import compare_runs, main


def write_run(root: Path, key: str, weights: bytes, report: dict[str, Any], name: str) -> Path:
    stage = root / f"export-{key}"
    stage.mkdir(parents=True)
    (stage / name).write_bytes(weights)
    (stage / "artifact.json").write_text(json.dumps({"key": key}))
    (root / "report").mkdir()
    (root / "report" / "report.json").write_text(json.dumps(report))
    return root


def report(kl: float, seconds: float, name: str = "kl") -> dict[str, Any]:
    return {
        "created": "now", "path": f"/tmp/{seconds}", "merge": {name: kl, "positions": 12},
        "measurements": [{"name": "tpot_ms_p50", "value": seconds, "unit": "ms"}],
    }  # fmt: skip


def test_renamed_files_and_keys_are_equal(tmp_path: Path) -> None:
    before = write_run(tmp_path / "a", "0" * 8, b"w", report(0.5, 1.0), "auto-2MB.gguf")
    after = write_run(tmp_path / "b", "1" * 8, b"w", report(0.5, 2.0, "kl_all"), "auto.gguf")
    summary, differences = compare_runs(before, after)
    assert differences == []
    assert "renamed: merge/kl -> merge/kl_all" in summary


@pytest.mark.parametrize(
    ("weights", "kl", "expected"),
    [
        (b"v", 0.5, "export/auto-2MB.gguf: bytes differ"),
        (b"w", 0.6, "report.json: merge/kl: 0.5 -> 0.6"),
    ],
)
def test_another_byte_or_number_differs(
    tmp_path: Path, weights: bytes, kl: float, expected: str
) -> None:
    before = write_run(tmp_path / "a", "0" * 8, b"w", report(0.5, 1.0), "auto-2MB.gguf")
    after = write_run(tmp_path / "b", "1" * 8, weights, report(kl, 1.0), "auto-2MB.gguf")
    assert compare_runs(before, after)[1] == [expected]


def test_the_command_prints_and_returns_the_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = write_run(tmp_path / "a", "0" * 8, b"w", report(0.5, 1.0), "auto-2MB.gguf")
    after = write_run(tmp_path / "b", "1" * 8, b"v", report(0.5, 1.0), "auto-2MB.gguf")
    monkeypatch.setattr("sys.argv", ["compare_runs", str(before), str(before)])
    assert main() == 0
    assert "nothing differs" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["compare_runs", str(before), str(after)])
    assert main() == 1
    assert "DIFFERS export/auto-2MB.gguf: bytes differ" in capsys.readouterr().out


def test_a_run_without_a_report_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finished = write_run(tmp_path / "a", "0" * 8, b"w", report(0.5, 1.0), "auto-2MB.gguf")
    monkeypatch.setattr("sys.argv", ["compare_runs", str(finished), str(tmp_path / "none")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "none is no finished run: it has no report/report.json" in capsys.readouterr().err
