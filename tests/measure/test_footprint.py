"""What running a file takes is measured in a process that holds its runtime and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetune.errors import InputError
from edgetune.measure.footprint import measure_file
from edgetune.recipe import Requests
from tests.model_files import make_gguf, make_onnx

REQUESTS = Requests(prompt_tokens=20, new_tokens=4, repeats=2, threads=1)


@pytest.mark.parametrize(
    ("make", "runtime"), [(make_gguf, "llama.cpp"), (make_onnx, "onnxruntime")]
)
def test_a_file_is_run(tiny_model: Path, make: Callable[[Path], Path], runtime: str) -> None:
    found = measure_file(make(tiny_model), REQUESTS, list(range(10, 30)))
    assert 10e6 < found.before_rss_bytes < found.peak_rss_bytes < 400e6
    assert found.tpot_ms > 0
    assert (found.runtime, found.threads) == (runtime, 1)


def test_a_file_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"no")
    with pytest.raises(InputError, match=r"'broken\.gguf' cannot be measured: .*broken GGUF"):
        measure_file(tmp_path / "broken.gguf", REQUESTS, [5, 6])


def test_the_process_holds_no_more_than_bench_s() -> None:
    code = (
        "import sys, edgetune.measure.footprint\n"
        "found = {'torch', 'transformers', 'pydantic', 'psutil'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
