"""Weights on their grid: what the forward pass has is what the bytes say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.quantize.formats.ggml import quantize_tensor
from edgetune.quantize.formats.ggml_blocks import CODECS, find_codec
from edgetune.quantize.methods.fake_quant import FakeQuantized
from edgetune.quantize.weights import Weight, find_weights
from edgetune.runtimes.ggml import dequantize_tensor
from edgetune.runtimes.gguf_header import open_gguf
from tests.conftest import make_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lattice")
    make_model(folder / "model", layers=2, hidden=256)
    convert_gguf(folder / "model", folder / "F32.gguf", GgufHeader("lattice"))
    return folder


def parts(folder: Path, kind: str) -> tuple[Any, dict[str, Weight], dict[str, np.ndarray]]:
    model = load_model(ModelRef(folder / "model"))
    source = open_gguf(folder / "F32.gguf")
    shapes = {name: tuple(tensor.shape) for name, tensor in source.tensors.items()}
    weights = {weight.tensor: weight for weight in find_weights(model, "llama", 2, shapes)}
    raw = {name: quantize_tensor(one.read(model), kind) for name, one in weights.items()}
    return model, weights, raw


@pytest.mark.parametrize("kind", CODECS)
def test_untrained_weights_are_ggmls_bit_for_bit(kind: str, folder: Path) -> None:
    model, weights, raw = parts(folder, kind)
    lattice = FakeQuantized(model, weights, raw, dict.fromkeys(weights, kind), find_codec)
    assert all(np.array_equal(lattice.write()[name], raw[name]) for name in raw)
    with lattice.applied(model):
        for name, weight in weights.items():
            values = weight.to_model(dequantize_tensor(raw[name], kind))
            assert torch.equal(model.get_parameter(weight.parameter).data, values)


@pytest.mark.parametrize("kind", ["Q8_0", "Q6_K", "Q4_K", "Q4_0", "Q3_K"])
def test_written_values_equal_those_of_the_forward_pass(kind: str, folder: Path) -> None:
    model, weights, raw = parts(folder, kind)
    lattice = FakeQuantized(model, weights, raw, dict.fromkeys(weights, kind), find_codec)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in weights.values():
            parameter = model.get_parameter(weight.parameter)
            parameter.add_(torch.randn_like(parameter))
    latent = model.model.layers[0].mlp.up_proj.weight.detach().clone()
    written = lattice.write()
    assert all(not np.array_equal(written[name], raw[name]) for name in raw)
    with lattice.applied(model):
        for name, weight in weights.items():
            values = weight.to_model(dequantize_tensor(written[name], kind))
            assert torch.equal(model.get_parameter(weight.parameter).data, values)
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight, latent)


@pytest.mark.parametrize("kind", CODECS)
def test_weights_start_at_the_codes_given_and_lean_to_where_they_were(
    kind: str, folder: Path
) -> None:
    model, weights, raw = parts(folder, kind)
    grid, random = find_codec(kind), np.random.default_rng(0)
    true = {name: one.read(model) for name, one in weights.items()}
    for name, rows in raw.items():  # as rounding with feedback leaves them: some one step off
        codes = grid.unpack(rows).quants_RC.astype(int) + random.integers(-1, 2, (len(rows), 1))
        raw[name] = grid.pack(rows, np.clip(codes, grid.first, grid.last))
    lattice = FakeQuantized(model, weights, raw, dict.fromkeys(weights, kind), find_codec)
    assert all(np.array_equal(lattice.write()[name], raw[name]) for name in raw)
    name, weight = next(iter(weights.items()))
    codes = grid.unpack(raw[name])
    lean = model.get_parameter(weight.parameter).detach().numpy() - codes.quants_RC
    assert np.abs(lean).max() <= 0.25 + 1e-5 and np.abs(lean).max() > 0.1
    scale = np.repeat(codes.scale_RB, lean.shape[1] // codes.scale_RB.shape[1], axis=1)
    off = true[name] - dequantize_tensor(raw[name], kind)
    clear = np.abs(off) > 1e-6
    assert np.array_equal(np.sign(lean * scale)[clear], np.sign(off)[clear])


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_K"])
def test_gradients_are_in_units_of_quantization_steps(kind: str, folder: Path) -> None:
    """They pass the rounding; Q4_0 has negative scales, along which they turn around."""
    model, weights, raw = parts(folder, kind)
    ids = torch.arange(5, 37)[None]
    name = "blk.1.ffn_down.weight"
    weight = model.model.layers[1].mlp.down_proj.weight
    lattice = FakeQuantized(model, weights, raw, dict.fromkeys(weights, kind), find_codec)
    with lattice.applied(model):
        model(input_ids=ids, labels=ids).loss.backward()
    by_steps = weight.grad.clone()
    plain = parts(folder, kind)[0]
    with torch.no_grad():
        for tensor, one in weights.items():
            values = one.to_model(dequantize_tensor(raw[tensor], kind))
            plain.get_parameter(one.parameter).copy_(values)
    plain(input_ids=ids, labels=ids).loss.backward()
    by_values = plain.model.layers[1].mlp.down_proj.weight.grad
    scale_RB = torch.from_numpy(find_codec(kind).unpack(raw[name]).scale_RB)
    scale_RC = scale_RB.repeat_interleave(weight.shape[1] // scale_RB.shape[1], dim=1)
    assert float(by_steps.abs().max()) > 0
    torch.testing.assert_close(by_steps, by_values * scale_RC)
    assert id(weight) in lattice.parameters


@pytest.mark.parametrize("kind", CODECS)
def test_learned_factors_start_where_they_were_and_are_written_as_computed_with(
    kind: str, folder: Path
) -> None:
    model, weights, raw = parts(folder, kind)
    lattice = FakeQuantized(model, weights, raw, dict.fromkeys(weights, kind), find_codec, True)
    assert all(np.array_equal(lattice.write()[name], raw[name]) for name in raw)
    torch.manual_seed(0)
    assert len(model.grid_moves) == len(weights)
    assert all(id(moves) in lattice.parameters for moves in model.grid_moves.values())
    with torch.no_grad():
        for moves in model.grid_moves.values():
            moves.add_(torch.randn_like(moves) / 2)
    written = lattice.write()
    with lattice.applied(model):
        for name, weight in weights.items():
            values = weight.to_model(dequantize_tensor(written[name], kind))
            assert torch.equal(model.get_parameter(weight.parameter).data, values)
    grid = find_codec(kind)
    for name, rows in written.items():
        assert np.array_equal(grid.unpack(rows).quants_RC, grid.unpack(raw[name]).quants_RC)
        moved = grid.read_super_scales(rows) != grid.read_super_scales(raw[name])
        assert moved.reshape(-1, moved.shape[-1]).mean(0).min() > 0.5


@pytest.mark.parametrize("kind", ["Q8_0", "Q6_K", "Q4_1", "Q4_0", "Q4_K", "Q2_K"])
def test_a_move_goes_where_the_loss_falls(kind: str, folder: Path) -> None:
    """A move's gradient is the loss's by it, so one against it lowers the loss by as much."""
    model, weights, raw = parts(folder, kind)
    ids = torch.arange(5, 37)[None]
    lattice = FakeQuantized(model, weights, raw, dict.fromkeys(weights, kind), find_codec, True)
    with torch.no_grad():  # not only where all moves are 0
        for moves in model.grid_moves.values():
            moves.add_(0.25)

    def loss() -> torch.Tensor:
        with lattice.applied(model):
            found: torch.Tensor = model(input_ids=ids, labels=ids).loss
            if found.requires_grad and torch.is_grad_enabled():
                found.backward()
        return found.detach()

    loss()
    for factor in range(next(iter(model.grid_moves.values())).shape[-1]):
        slopes = {n: m.grad[..., factor] for n, m in model.grid_moves.items()}
        # Steps that are far above float16's rounding of a factor, small against the curvature.
        step = 0.02 / max(float(slope.abs().max()) for slope in slopes.values())
        fall = sum(float((slope**2).sum()) for slope in slopes.values()) * step
        ends = []
        for sign in (-1, 1):
            with torch.no_grad():
                for name, moves in model.grid_moves.items():
                    moves[..., factor] += sign * step * slopes[name]
                ends.append(float(loss()))
                for name, moves in model.grid_moves.items():
                    moves[..., factor] -= sign * step * slopes[name]
        assert (ends[1] - ends[0]) / 2 == pytest.approx(fall, rel=0.1)
