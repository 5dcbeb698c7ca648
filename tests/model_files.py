"""The files of one small model in every format, for the tests that run or measure them.

They are made once a session, beside the model's folder.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def make_gguf(model: Path) -> Path:
    """Return the model as an F32 GGUF file."""
    from edgetune.export.gguf.converter import GgufHeader
    from edgetune.export.gguf.f32 import convert_gguf

    target = model.with_name(model.name + "-F32.gguf")
    if not target.exists():
        convert_gguf(model, target, GgufHeader(name="tiny"))
    return target


def make_onnx(model: Path) -> Path:
    """Return the model as an fp32 ONNX folder, by the genai builder alone."""
    target = model.with_name(model.name + "-fp32-onnx")
    if not target.exists():
        builder = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
        paths = ["-i", str(model), "-o", str(target), "-c", str(target) + ".cache"]
        command = [*builder, *paths, "-p", "fp32", "-e", "cpu"]
        subprocess.run(command, check=True, capture_output=True)
    return target
