"""Tokens are found whose rows of a head are parallel, whatever its size and dtype."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgetune.models import untrained_tokens
from edgetune.models.shape import Shape, read_shape
from edgetune.models.untrained_tokens import find_alike, find_alike_in_folder, name_ends
from tests.conftest import make_model

WIDTH = 32


def make_head(rows: int = 400) -> torch.Tensor:
    """Return a head whose tokens 7, 20 and 21 were never trained."""
    head = torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(0))
    head[[20, 21]] = head[7] * 1.001
    return head


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parallel_rows_are_found_and_no_others(dtype: torch.dtype) -> None:
    assert find_alike(make_head().to(dtype), list(range(60))) == [7, 20, 21]
    assert find_alike(make_head(), [7, 9]) == [7]
    assert find_alike(make_head(), []) == []


def test_rows_that_a_training_moved_apart_are_not_alike() -> None:
    head = make_head()
    side = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
    head[20:22] += 0.5 * torch.stack([side, -side])
    assert find_alike(head, list(range(60))) == []


def test_of_a_large_head_a_part_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrained_tokens, "COMPARED_ROWS", 100)  # rows 0, 4, 8 …: 20 is one of them
    assert find_alike(make_head(), [7, 9]) == [7]
    assert find_alike(make_head(), [9, 7, 21, 20]) == [7, 21, 20]


def test_the_names_are_those_that_modules_to_save_takes() -> None:
    tensors = {"model.embed_tokens.weight": (8, 4), "model.layers.0.q.weight": (4, 4)}
    shape = Shape(1, None, tensors, True, False, {})
    assert name_ends(shape) == ["embed_tokens", "lm_head"]
    gpt2 = Shape(1, None, {"transformer.wte.weight": (8, 4)}, True, False, {})
    assert name_ends(gpt2) == ["wte", "lm_head"]


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_of_a_folder_is_found(tmp_path: Path, tied: bool) -> None:
    folder = make_model(tmp_path, tied=tied)
    weights = load_file(folder / "model.safetensors")
    head = weights["model.embed_tokens.weight" if tied else "lm_head.weight"]
    head[30:33] = head[30]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    shape = read_shape(folder)
    assert find_alike_in_folder(folder, shape, [*range(28, 36), 10_000]) == [30, 31, 32]
    assert name_ends(shape) == ["embed_tokens", "lm_head"]
