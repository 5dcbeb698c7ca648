"""Types of a target's file: what its method decides, less what the recipe leaves out."""

from __future__ import annotations

from importlib import import_module
from typing import get_args

import pytest

from edgetune.errors import InputError
from edgetune.quantize.formats.types import GGUF, ONNX
from edgetune.quantize.methods import METHODS, refuse_deciding, types_of
from edgetune.quantize.search.budget import parse_budget
from edgetune.recipe.quantization import QuantizeSection

TARGETS = [parse_budget("bits=5"), parse_budget("onnx:bits=5")]


def test_a_recipe_s_types_are_taken_in_the_order_of_their_bits() -> None:
    assert types_of("gptq", (), "gguf") == GGUF.names
    assert types_of("gptq", (), "onnx") == ONNX.names
    assert types_of("gptq", ("Q4_0", "int4_g64", "Q8_0"), "gguf") == ("Q8_0", "Q4_0")
    assert types_of("gptq", ("Q4_0", "int4_g64", "Q8_0"), "onnx") == ("Q8_0", "Q4_0", "int4_g64")
    assert types_of("grid", ("Q4_K", "IQ4_XS"), "gguf") == ("Q4_K",)


def test_an_unknown_type_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no type 'Q4_k' \(did you mean 'Q4_[K0]'\?\)"):
        refuse_deciding("gptq", ["Q4_k"], TARGETS)


def test_types_that_a_target_s_file_cannot_have_are_refused() -> None:
    refuse_deciding("gptq", ["Q4_0"], TARGETS)
    with pytest.raises(InputError, match="method gptq gives matrices of onnx files none of Q4_K"):
        refuse_deciding("gptq", ["Q4_K"], TARGETS)
    with pytest.raises(InputError, match="method autoround gives matrices of gguf files none of"):
        refuse_deciding("autoround", ["Q4_K"], TARGETS[:1])


def test_what_only_a_target_takes_is_refused_without_one() -> None:
    refuse_deciding("gptq", [], [])
    with pytest.raises(InputError, match="no file whose types are chosen"):
        refuse_deciding("gptq", ["Q4_0"], [])
    with pytest.raises(InputError, match="no file whose weights could be trained"):
        refuse_deciding("grid", [], [])


def test_recipe_choices_and_settings_sections_are_rows_of_the_table() -> None:
    choices = get_args(QuantizeSection.model_fields["method"].annotation)
    assert choices == tuple(METHODS)
    sections = {row.section for row in METHODS.values() if row.section}
    assert sections <= set(QuantizeSection.model_fields)


@pytest.mark.parametrize("name", [name for name, row in METHODS.items() if row.module])
def test_each_row_with_a_module_quantizes_files(name: str) -> None:
    module = import_module(f"edgetune.quantize.methods.{METHODS[name].module}")
    assert callable(module.quantize_file)
