from __future__ import annotations

from pathlib import Path

import pytest

from edgetune.errors import InputError
from edgetune.quantize.plan import (
    ONNX_SETTINGS,
    Plan,
    check_types,
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


def test_a_plan_with_earlier_spellings_of_types_is_read(tmp_path: Path) -> None:
    write_plan(Plan({}, {"fit-int4": {"weights": "Q8_0", "types": {"a": "Z4_32"}}}), tmp_path)
    assert read_plan(tmp_path).onnx["fit-int4"]["types"] == {"a": "uint4_g32"}


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


def test_refuses_the_types_of_another_model() -> None:
    shapes = {"a.weight": (8, 256), "b.weight": (4, 64), "norm.weight": (64,)}
    good = {"a.weight": "Q4_K", "b.weight": "Q8_0", "norm.weight": "F32"}
    path = Path("plan/plan.json")
    check_types({"Q4_K_M": good}, shapes, path)
    for types, said in (
        (good | {"b.weight": "Q4_K"}, "gives 'b.weight' the type Q4_K, .*rows of 64"),
        (good | {"c.weight": "F16"}, "has a type for the tensor 'c.weight', which the model lacks"),
        ({"a.weight": "Q4_K", "norm.weight": "F32"}, "has no type for the tensor 'b.weight'"),
    ):
        with pytest.raises(InputError, match=said) as error:
            check_types({"F16": good, "Q4_K_M": types}, shapes, path)
        assert error.value.where == "plan/plan.json: gguf.Q4_K_M"
        assert "edgetune quantize" in str(error.value.hint)
