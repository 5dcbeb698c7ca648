"""Types of a budget's file: what its method can produce, restricted by the recipe."""

from __future__ import annotations

from importlib import import_module
from typing import get_args

import pytest

from edgetune.errors import InputError
from edgetune.quantize.formats.types import GGUF, ONNX
from edgetune.quantize.methods import METHODS, check_method, types_of
from edgetune.quantize.search.budget import parse_budget
from edgetune.recipe.quantization import QuantizeSection

BUDGETS = [parse_budget("bits=5"), parse_budget("onnx:bits=5")]


def test_types_of_a_recipe_are_ordered_by_bits() -> None:
    assert types_of("gptq", (), "gguf") == GGUF.names
    assert types_of("gptq", (), "onnx") == ONNX.names
    assert types_of("gptq", ("Q4_0", "int4_g64", "Q8_0"), "gguf") == ("Q8_0", "Q4_0")
    assert types_of("gptq", ("Q4_0", "int4_g64", "Q8_0"), "onnx") == ("Q8_0", "Q4_0", "int4_g64")
    assert types_of("qat", ("Q4_K", "IQ4_XS"), "gguf") == ("Q4_K",)


def test_an_unknown_type_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no type 'Q4_k' \(did you mean 'Q4_[K0]'\?\)"):
        check_method("gptq", ["Q4_k"], BUDGETS)


def test_types_that_a_method_cannot_produce_are_refused() -> None:
    check_method("gptq", ["Q4_0"], BUDGETS)
    with pytest.raises(InputError, match="method gptq gives matrices of onnx files none of Q4_K"):
        check_method("gptq", ["Q4_K"], BUDGETS)
    with pytest.raises(InputError, match="method autoround gives matrices of gguf files none of"):
        check_method("autoround", ["Q4_K"], BUDGETS[:1])


def test_settings_of_budgets_are_refused_without_a_budget() -> None:
    check_method("gptq", [], [])
    with pytest.raises(InputError, match="no types are searched"):
        check_method("gptq", ["Q4_0"], [])
    with pytest.raises(InputError, match="no file is trained"):
        check_method("qat", [], [])


def test_recipe_choices_and_settings_sections_are_rows_of_the_table() -> None:
    choices = get_args(QuantizeSection.model_fields["method"].annotation)
    assert choices == tuple(METHODS)
    sections = {row.section for row in METHODS.values() if row.section}
    assert sections <= set(QuantizeSection.model_fields)


@pytest.mark.parametrize("name", [name for name, row in METHODS.items() if row.module])
def test_each_row_with_a_module_quantizes_files(name: str) -> None:
    module = import_module(f"edgetune.quantize.methods.{METHODS[name].module}")
    assert callable(module.quantize_file)
