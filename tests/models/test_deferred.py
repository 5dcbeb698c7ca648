"""A model whose weights are read when they are asked for has the values of one in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgetune.models import deferred
from edgetune.models.checkpoint_tensors import CheckpointTensors
from edgetune.models.deferred import DeferredTensor, open_deferred, read_values
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from tests.tiny_models import make_tiny_model


def later(values: torch.Tensor) -> DeferredTensor:
    return DeferredTensor(lambda: values, values)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_weights_are_those_on_disk(family: str, tmp_path: Path) -> None:
    folder = make_tiny_model(family, tmp_path / "model", real_tokenizer=False)
    model, wanted = open_deferred(folder), load_model(ModelRef(folder))
    assert model is not None
    found = dict(model.named_parameters(remove_duplicate=False))
    for name, parameter in wanted.named_parameters(remove_duplicate=False):
        assert isinstance(found[name], DeferredTensor)
        assert torch.equal(read_values(found[name]), parameter.float()), name


def test_operations_run_when_values_are_asked_for() -> None:
    first, second = torch.randn(4, 6), torch.randn(2, 6)
    parameter = torch.nn.Parameter(later(first), requires_grad=False)
    joined = torch.cat([parameter, later(second)], dim=0).reshape(6, 6).T
    halves = (joined[:, [1, 3]] + 1).to(torch.float16).chunk(2)
    assert isinstance(joined, DeferredTensor) and joined.shape == (6, 6)
    wanted = (torch.cat([first, second]).T[:, [1, 3]] + 1).half().chunk(2)
    assert all(isinstance(half, DeferredTensor) for half in halves)
    assert all(torch.equal(read_values(a), b) for a, b in zip(halves, wanted, strict=True))


def test_a_number_and_a_copy_are_computed_at_once() -> None:
    values = torch.tensor([0.0, 2.0])
    assert torch.count_nonzero(later(values)) == 1
    target = torch.zeros(2)
    target.copy_(later(values))
    assert torch.equal(target, values)


def test_no_weight_is_read_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_tiny_model("llama", tmp_path / "model", real_tokenizer=False)
    asked: list[str] = []

    class Watched(CheckpointTensors):
        def __getitem__(self, name: str) -> torch.Tensor:
            asked.append(name)
            return super().__getitem__(name)

    monkeypatch.setattr(deferred, "CheckpointTensors", Watched)
    model = open_deferred(folder)
    assert model is not None and not asked
    read_values(model.lm_head.weight.T)
    assert asked == ["lm_head.weight"]
