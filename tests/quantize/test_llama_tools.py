"""llama.cpp's own programs read our importance matrix and make our bytes of it.

LLAMA_CPP_TOOLS names the folder of ``llama-quantize`` and ``llama-imatrix``, built from the source
that llama-cpp-python carries: the same ggml that writes our files.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf, open_model
from edgetune.export.gguf.support import find_architecture
from edgetune.export.gguf.write import Quantization, write_gguf
from edgetune.log import Log
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.quantize.calibration.activations import collect_activation_stats
from edgetune.quantize.calibration.imatrix import (
    describe_imatrix,
    name_for_gguf,
    read_imatrix,
    write_imatrix,
)
from edgetune.quantize.formats.llama_quantize import stock_types
from tests.tiny_models import make_tiny_model

pytestmark = pytest.mark.slow
HEADER = GgufHeader("twin")


@pytest.fixture(scope="module")
def tools() -> Path:
    folder = os.environ.get("LLAMA_CPP_TOOLS")
    if not folder or not (Path(folder) / "llama-quantize").is_file():
        pytest.skip("no llama-quantize: set LLAMA_CPP_TOOLS to the folder it is in")
    return Path(folder)


def run(*command: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def make_imatrix(model: Path, path: Path) -> dict[str, np.ndarray]:
    ids = [list(np.random.default_rng(n).integers(3, 200, 20 + n)) for n in range(16)]
    energy = collect_activation_stats(load_model(ModelRef(model)), ids, Log(quiet=True))
    found = find_architecture(model)
    assert found is not None
    write_imatrix(name_for_gguf(energy, *found), path, "some ids")
    return read_imatrix(path)


@pytest.mark.parametrize("scheme", ["Q4_K_M", "IQ2_S", "Q4_0"])
@pytest.mark.parametrize("name", ["llama", "qwen2", "phi3", "qwen2moe", "mixtral"])
def test_llama_quantize_makes_our_tensors(
    name: str, scheme: str, tools: Path, tmp_path: Path
) -> None:
    model = make_tiny_model(name, tmp_path / name, width=256, real_tokenizer=False)
    imatrix = tmp_path / "imatrix.gguf"
    importance = make_imatrix(model, imatrix)
    convert_gguf(model, tmp_path / "F32.gguf", HEADER)
    theirs = tmp_path / "theirs.gguf"
    said = run(
        tools / "llama-quantize", "--imatrix", imatrix, tmp_path / "F32.gguf", theirs, scheme
    )
    assert f"loaded {len(importance)} importance matrix entries" in said
    assert "did not find weights for" not in said.replace("for token_embd", "")

    source = open_model(model, tmp_path / "frame.gguf", HEADER)
    types = stock_types(source.path, scheme, importance).types
    keys = describe_imatrix(imatrix)
    write_gguf(source, tmp_path / "ours.gguf", Quantization(scheme, types, importance, keys=keys))
    ours, wanted = GGUFReader(tmp_path / "ours.gguf"), GGUFReader(theirs)
    held = {one.name: (one.tensor_type, one.data.tobytes()) for one in ours.tensors}
    assert held == {one.name: (one.tensor_type, one.data.tobytes()) for one in wanted.tensors}
    for key, value in wanted.fields.items():
        if key.startswith("quantize.imatrix.") and not key.endswith(".file"):
            assert ours.fields[key].contents() == value.contents(), key
            assert ours.fields[key].types == value.types, key


def test_llama_imatrix_reads_ours(tools: Path, tmp_path: Path) -> None:
    """It is asked to go on from our file without text, and to write what it read."""
    model = make_tiny_model("qwen2moe", tmp_path / "model", real_tokenizer=False)
    imatrix, again = tmp_path / "imatrix.gguf", tmp_path / "again.gguf"
    importance = make_imatrix(model, imatrix)
    convert_gguf(model, tmp_path / "F32.gguf", HEADER)
    run(tools / "llama-imatrix", "-m", tmp_path / "F32.gguf", "--in-file", imatrix, "-o", again)
    found = read_imatrix(again)
    assert found.keys() == importance.keys()
    for name, means in importance.items():
        np.testing.assert_allclose(found[name], means, rtol=1e-6)
