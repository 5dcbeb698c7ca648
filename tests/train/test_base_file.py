"""A GGUF file is asked in llama.cpp whether it is the model that torch made of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from edgetune.data.build_encoder import make_encoder
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.gguf_base import load_gguf_base
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import Recipe
from edgetune.train.base_file import check_base_file
from tests.gguf_files import make_gguf

ROWS = [list(range(5, 60)), list(range(60, 90))]


@pytest.fixture(scope="module")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    path = tmp_path_factory.mktemp("base") / "base.gguf"
    return tiny_model, make_gguf(tiny_model, path, "Q8_0")


def encoder_with(folder: Path) -> Any:
    recipe = Recipe.model_validate({"model": {"path": str(folder)}, "data": {"train": "x.jsonl"}})
    assert recipe.data is not None
    return make_encoder(load_tokenizer(folder), recipe.data, "<|im_end|>")


@pytest.mark.parametrize(("end_id", "warns"), [(None, False), (70, True)])
def test_the_right_file_passes_and_its_stop_token_is_looked_at(
    base: tuple[Path, Path], end_id: int | None, warns: bool
) -> None:
    events: list[tuple[str, Any]] = []
    log = Log(quiet=True, listener=lambda kind, fields: events.append((kind, fields)))
    model, encoder = load_gguf_base(*base, "float32", "cpu"), encoder_with(base[0])
    if end_id is not None:  # an end token that the file knows nothing of
        encoder = replace(encoder, end_id=end_id)
    assert 0 < check_base_file(model, base[1], encoder, ROWS, log) < 1e-2
    said = [str(fields["text"]) for kind, fields in events if kind == "warning"]
    assert bool(said) == warns and all("do not stop at" in text for text in said)


def test_another_model_is_refused(base: tuple[Path, Path]) -> None:
    model = load_gguf_base(*base, "float32", "cpu")
    with torch.no_grad():  # rows in another order, as a wrong table of families would leave them
        for layer in model.model.layers:
            layer.mlp.down_proj.weight.data = layer.mlp.down_proj.weight.data.flip(0)
    with pytest.raises(InputError, match=r"llama\.cpp and torch make other models of this file"):
        check_base_file(model, base[1], encoder_with(base[0]), ROWS, Log(quiet=True))
