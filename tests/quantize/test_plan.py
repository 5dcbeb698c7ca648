from __future__ import annotations

from pathlib import Path

import pytest

from edgetune.errors import InputError
from edgetune.quantize.plan import (
    ONNX_SETTINGS,
    Plan,
    hash_sequences,
    read_plan,
    write_plan,
)
from edgetune.recipe import ONNX_SCHEMES


def test_reads_back_what_it_wrote(tmp_path: Path) -> None:
    fallback = {"scheme": "Q4_0", "tensor": "a", "wanted": "Q4_0", "got": "F16", "why": "172"}
    plan = Plan({"Q4_0": {"a": "F16"}}, {"int4": ONNX_SETTINGS["int4"]}, [fallback], "ab", {"n": 1})
    write_plan(plan, tmp_path)
    assert read_plan(tmp_path) == plan


def test_refuses_what_is_no_plan(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no readable quantization plan"):
        read_plan(tmp_path)
    (tmp_path / "plan.json").write_text('{"gguf": {}}')
    with pytest.raises(InputError, match="onnx"):
        read_plan(tmp_path)


def test_every_precision_of_the_recipe_has_settings() -> None:
    assert tuple(ONNX_SETTINGS) == ONNX_SCHEMES


def test_the_hash_tells_sequences_apart() -> None:
    assert hash_sequences([[1, 2], [3]]) == hash_sequences([[1, 2], [3]])
    assert hash_sequences([[1, 2], [3]]) != hash_sequences([[1], [2, 3]])
