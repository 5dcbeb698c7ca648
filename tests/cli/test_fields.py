"""Options that set a recipe key have the type, the choices and the help of its field."""

from __future__ import annotations

import importlib

import click
import pytest

from edgetune.cli.fields import find_field
from edgetune.recipe import Recipe


@pytest.mark.parametrize(
    "command, option, key",
    [
        ("tune", "method", "tune.method"),
        ("tune", "rank", "tune.rank"),
        ("distill", "method", "distill.method"),
        ("distill", "layers", "distill.student.layers"),
        ("merge", "trained_on", "merge.trained_on"),
        ("quantize", "method", "quantize.method"),
        ("bench", "device", "model.device"),
    ],
)
def test_option_is_its_recipe_field(command: str, option: str, key: str) -> None:
    found = importlib.import_module(f"edgetune.cli.{command}").command
    parameter = next(p for p in found.params if p.name == option)
    field = find_field(key)
    assert isinstance(parameter, click.Option) and parameter.help
    assert parameter.help.lower().startswith(str(field.description).lower())
    if isinstance(parameter.type, click.Choice):
        assert set(parameter.type.choices) == set(field.annotation.__args__)  # type: ignore[union-attr]
    elif "Literal" in str(field.annotation):  # a number, or a word: --rank auto
        assert parameter.type is click.STRING
    else:
        assert parameter.type is click.INT


def test_a_number_or_a_word_is_read_as_what_it_is() -> None:
    tree = {"model": {"path": "embedded:base"}}
    assert [Recipe.model_validate({**tree, "tune": {"rank": rank}}).steps[0].rank
            for rank in ("8", "auto")] == [8, "auto"]  # fmt: skip
