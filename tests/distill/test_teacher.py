"""Who teaches, where it can run."""

from __future__ import annotations

from pathlib import Path

import llama_cpp
import pytest

from edgetune.distill.teacher import open_teacher
from tests.model_files import make_gguf


def test_a_file_teaches_on_the_cpu_where_its_runtime_has_no_cuda(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_cpp, "llama_supports_gpu_offload", lambda: False)
    teacher = open_teacher(make_gguf(tiny_model), "float32", "cuda")
    try:
        assert teacher.runtime is not None and teacher.runtime.device == "cpu"
        assert teacher.device == "cuda"  # where the student and its losses are
    finally:
        teacher.close()
