"""bench/gpu.sh: a part that fails, hangs or lacks a package is told, and the others go on."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bench.gpu import driver
from bench.gpu.driver import PARTS, ROOT, SECONDS, Part, run_all
from bench.gpu.slim_wheel import slim

SAYS = {
    "good": 'import sys; print("noise"); print(\'{"faults": [], "n": 3}\')',
    "bad": 'print(\'{"faults": ["2 is not 1"]}\')',
    "dies": "raise MemoryError('no room')",
    "hangs": "import time; print('{}', flush=True); time.sleep(60)",
}


def test_parts_go_on_after_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen

    def fake(command: list[str], **more: object) -> object:
        return real([sys.executable, "-c", SAYS[command[2].rpartition(".")[2]]], **more)

    monkeypatch.setattr(driver.subprocess, "Popen", fake)
    parts = (
        Part("hangs", 6, ()), Part("dies", 30, ()), Part("lacks", 9, ("no_such_package",)),
        Part("bad", 30, ()), Part("good", 30, ()),
    )  # fmt: skip
    found = run_all(parts, [], 100, tmp_path)
    assert {name: one["status"] for name, one in found.items()} == {
        "hangs": "timeout", "dies": "failed", "lacks": "skipped", "bad": "failed", "good": "ok"
    }  # fmt: skip
    assert "MemoryError: no room" in found["dies"]["why"]
    assert found["lacks"]["why"] == "not installed: no_such_package"
    assert found["bad"]["faults"] == ["2 is not 1"] and found["good"]["n"] == 3
    assert run_all(parts[-1:], [], 2, tmp_path)["good"]["why"] == "no time left"


def test_its_parts_are_modules_and_end_within_eight_minutes() -> None:
    for part in PARTS:
        assert importlib.util.find_spec(f"bench.gpu.{part.name}"), part.name
    assert SECONDS <= 470
    said = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    assert {part.name for part in PARTS} == set(re.findall(r"^\| `(\w+)` \|", said, re.M))


def test_a_wheel_is_slimmed_to_one_cuda_version(tmp_path: Path) -> None:
    wheel = tmp_path / "bitsandbytes-0-py3-none-any.whl"
    names = [f"bitsandbytes/libbitsandbytes_{kind}.so" for kind in ("cpu", "cuda126", "cuda130")]
    with zipfile.ZipFile(wheel, "w") as file:
        for name in (*names, "bitsandbytes/nn.py"):
            file.writestr(name, "x")
        record = "".join(f"{name},sha256=x,1\n" for name in (*names, "bitsandbytes/nn.py"))
        file.writestr("bitsandbytes-0.dist-info/RECORD", record)
    assert slim(wheel, "130") == ["cpu", "cuda130"]
    with zipfile.ZipFile(wheel) as file:
        assert names[1] not in file.namelist() and names[2] in file.namelist()
        assert "cuda126" not in file.read("bitsandbytes-0.dist-info/RECORD").decode()
    with pytest.raises(SystemExit, match="no library for CUDA 118"):
        slim(wheel, "118")
