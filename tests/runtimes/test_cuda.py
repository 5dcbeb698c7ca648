"""Runtimes on a GPU: the CPU's answers, or a refusal that names what this build lacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgetune.errors import Unsupported
from edgetune.models.ref import ModelRef
from edgetune.runtimes import open_runtime
from tests.model_files import make_gguf, make_onnx

pytestmark = pytest.mark.gpu
IDS = [5, 9, 13, 17, 21, 25]


def close(found: np.ndarray, wanted: np.ndarray) -> bool:
    return bool(np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 3e-2)


def test_torch(device: str, tiny_model: Path) -> None:
    here, there = open_runtime(tiny_model), open_runtime(tiny_model, device=device)
    assert there.device == device
    assert close(there.logits(IDS), here.logits(IDS))
    prompts = [IDS, IDS[:3], IDS[:4], IDS[2:]]
    alone = [there.generate([prompt], 6, [2])[0] for prompt in prompts]
    assert there.generate(prompts, 6, [2]) == alone
    assert len(list(there.stream(IDS, 4))) == 4
    packed = open_runtime(ModelRef(tiny_model, nf4=True), device=device)
    assert close(packed.logits(IDS), open_runtime(ModelRef(tiny_model, nf4=True)).logits(IDS))


@pytest.mark.parametrize("make", [make_gguf, make_onnx])
def test_files(make: Callable[[Path], Path], device: str, tiny_model: Path) -> None:
    path = make(tiny_model)
    here = open_runtime(path)
    try:
        there = open_runtime(path, device=device)
    except Unsupported as error:
        assert device == "cuda" and error.hint  # it says what to install
        return
    try:
        assert there.device == device and close(there.logits(IDS), here.logits(IDS))
    finally:
        here.close()
        there.close()
