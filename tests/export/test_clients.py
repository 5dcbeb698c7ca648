"""Clients that nobody here wrote load our files untouched and answer as the model does.

Their packages are those of ``bench/clients/package.json``, installed in the folder that
EDGETUNE_CLIENTS names (``bench/clients.py`` does it). node-llama-cpp is
asked by the bench alone, with a trained model.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from edgetune.data.contract import read_contract
from edgetune.export.onnx.build import write_weights
from edgetune.export.onnx.frame import open_frame
from edgetune.quantize.plan import ONNX_SETTINGS
from tests.export.test_readme import greedy_text, made

__all__ = ["made"]
BENCH = Path(__file__).parents[2] / "bench" / "clients.py"


@pytest.fixture(scope="module")
def bench() -> Any:
    """The bench's table of clients, as a module."""
    spec = importlib.util.spec_from_file_location("bench_clients", BENCH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


@pytest.mark.browser
@pytest.mark.parametrize(
    ("client", "path"),
    [
        ("transformers.js in Chromium", "onnx/fp32"),
        ("transformers.js in node", "onnx/fp32"),
        ("wllama in Chromium", "gguf/tiny-F32.gguf"),
    ],
)
def test_answers_are_the_models(
    client: str, path: str, bench: Any, made: tuple[Path, Path]
) -> None:
    row = next(one for one in bench.CLIENTS if one.name == client)
    if why := row.missing():
        pytest.skip(f"{why}: python bench/clients.py installs it")
    model, out = made
    messages = read_contract(model)["golden"][0]["messages"]
    job = {"path": str(out / path), "questions": [messages, messages], "tokens": 24}
    answers = row.ask(job)
    wanted = greedy_text(model, 24)
    # A random model says bytes that are no text, which every client drops in its own way.
    plain = [re.sub(r"[^ -~]", "", answer).strip() for answer in (*answers, wanted)]
    assert len(plain[-1]) > 10
    assert plain[0] == plain[1] == plain[2]


@pytest.mark.browser
def test_int8_loads_in_the_default_browser_build(
    bench: Any, made: tuple[Path, Path], tmp_path: Path
) -> None:
    """ONNX Runtime's WebGPU build, which transformers.js takes, has no GatherBlockQuantized."""
    row = next(one for one in bench.CLIENTS if one.name == "transformers.js in Chromium")
    if why := row.missing():
        pytest.skip(f"{why}: python bench/clients.py installs it")
    model, _ = made
    frame = open_frame(model, tmp_path / "builder")
    write_weights(frame, tmp_path / "int8", ONNX_SETTINGS["int8"], {})
    messages = read_contract(model)["golden"][0]["messages"]
    (answer,) = row.ask({"path": str(tmp_path / "int8"), "questions": [messages], "tokens": 24})
    assert len(re.sub(r"[^ -~]", "", answer)) > 10
