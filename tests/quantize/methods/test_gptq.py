"""Rounding with feedback: the same grid, less error at the output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgetune.log import Log
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.quantize.calibration.layer_passes import LayerHessians
from edgetune.quantize.formats.types import GGUF, ONNX, TypeSet
from edgetune.quantize.methods.gptq import Gptq, find_readers
from edgetune.quantize.weights import find_weights

QUIET = Log(quiet=True)
RANDOM = np.random.default_rng(0)
MIXING = RANDOM.standard_normal((40, 256))


def inputs(tokens: int = 2000) -> np.ndarray:
    """Inputs whose columns go together, as those of a model do."""
    mixed = RANDOM.standard_normal((tokens, 40)) @ MIXING
    found: np.ndarray = (mixed + RANDOM.standard_normal((tokens, 256))).astype(np.float32)
    found[:, 17] = 0  # a column that is never used
    return found


EVERY_GRID = pytest.mark.parametrize(
    ("types", "kind"),
    [*((GGUF, kind) for kind in GGUF.codec_types), *((ONNX, kind) for kind in ONNX.codec_types)],
)


@EVERY_GRID
def test_output_error_is_lower_with_the_same_scales(types: TypeSet, kind: str) -> None:
    given, held_out = inputs(), inputs(500)
    values = RANDOM.standard_normal((48, 256)).astype(np.float32)
    values[5] = 0
    moments = given.T @ given / np.float32(len(given))
    feedback = Gptq(moments)
    raw = types.quantize(values, kind, np.ascontiguousarray(moments.diagonal()), "one")
    fed = feedback.round(values, raw, types.codec(kind))
    chosen = feedback.choose_quants(values, raw, types.codec(kind))
    before, after = (types.codec(kind).unpack(each) for each in (raw, chosen))
    assert np.array_equal(before.scale_RB, after.scale_RB)
    assert after.quants_RC.min() >= types.codec(kind).first
    assert after.quants_RC.max() <= types.codec(kind).last
    plain_off, fed_off = (types.read(each, kind) - values for each in (raw, fed))
    assert feedback.error(fed_off) < 0.7 * feedback.error(plain_off)
    seen = [np.square(held_out @ off.T).mean() for off in (plain_off, fed_off)]
    assert seen[1] < 0.8 * seen[0]


@EVERY_GRID
def test_factors_are_fitted_to_the_codes(types: TypeSet, kind: str) -> None:
    """Factors that are a little off come back as near as float16 takes them; codes stay."""
    given = inputs()
    moments = given.T @ given / np.float32(len(given))
    feedback = Gptq(moments)
    grid = types.codec(kind)
    noise = RANDOM.standard_normal((24, 256)).astype(np.float32)
    noise[3] = 0
    raw = types.quantize(noise, kind, np.ascontiguousarray(moments.diagonal()), "one")
    values = types.read(raw, kind)  # on the grid, so some factors give no error at all
    factors = grid.read_super_scales(raw)
    assert np.array_equal(grid.write_super_scales(raw, factors), raw)
    off = grid.write_super_scales(raw, factors * RANDOM.uniform(0.8, 1.25, factors.shape))
    fitted = feedback.fit_scales(values, off, grid)
    assert np.array_equal(grid.unpack(fitted).quants_RC, grid.unpack(raw).quants_RC)
    before, after = (feedback.error(types.read(one, kind) - values) for one in (off, fitted))
    assert after < 1e-4 * before
    assert np.array_equal(fitted[3], raw[3])  # nothing to fit


def test_a_row_of_higher_error_after_the_fit_is_kept() -> None:
    values = RANDOM.standard_normal((8, 256)).astype(np.float32)
    grid = GGUF.codec("Q8_0")
    raw = GGUF.quantize(values, "Q8_0", None, "one")
    moments = np.eye(256, dtype=np.float32)
    once = Gptq(moments).fit_scales(values, raw, grid)
    errors = [np.square(GGUF.read(one, "Q8_0") - values).sum(-1) for one in (raw, once)]
    assert (errors[1] <= errors[0]).all()
    assert (errors[1] < errors[0]).any()


def test_independent_columns_are_rounded_each_by_itself() -> None:
    values = RANDOM.standard_normal((16, 256)).astype(np.float32)
    raw = GGUF.quantize(values, "Q4_0", None, "one")
    grid = GGUF.codec("Q4_0")
    feedback = Gptq(np.eye(256, dtype=np.float32))
    fed = grid.unpack(feedback.choose_quants(values, raw, grid))
    steps = np.rint(values.reshape(16, 8, 32) / fed.scale_RB[..., None]) + grid.zero
    assert np.array_equal(fed.quants_RC.reshape(16, 8, 32), np.clip(steps, 0, 15))


def test_hessian_is_that_of_the_inputs(tiny_model: Path, tmp_path: Path) -> None:
    """Padded and computed together they are the same; a tied table has those of the head."""
    import torch

    model = load_model(ModelRef(tiny_model))
    head = model.get_output_embeddings().weight
    shapes = {
        "blk.1.ffn_down.weight": tuple(model.model.layers[1].mlp.down_proj.weight.shape),
        "token_embd.weight": tuple(head.shape),
    }
    weights = find_weights(model, "llama", 2, shapes)
    sequences = [[(7 * n + 3 * t) % 290 + 5 for t in range(9 + n)] for n in range(5)]
    readers = find_readers(model, weights)
    assert readers == {
        "blk.1.ffn_down.weight": ("model.layers.1.mlp.down_proj", 1),
        "token_embd.weight": ("lm_head", 2),
    }
    hessians = LayerHessians(model, sequences, tmp_path)
    found = {
        tensor: hessians.of(reader.layer, [reader.module])[reader.module]
        for tensor, reader in sorted(readers.items(), key=lambda one: one[1].layer)
    }
    kept: dict[str, list[torch.Tensor]] = {name: [] for name in shapes}
    watched = dict(zip(shapes, (model.model.layers[1].mlp.down_proj, model.lm_head), strict=True))
    for name, module in watched.items():
        module.register_forward_pre_hook(lambda _, given, to=kept[name]: to.append(given[0][0]))
    with torch.inference_mode():
        for ids in sequences:
            model(torch.tensor([ids]))
    for name, parts in kept.items():
        inputs_NC = torch.cat(parts)
        wanted = (inputs_NC.T @ inputs_NC / len(inputs_NC)).numpy()
        assert np.abs(found[name] - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_other_inputs_are_made_up_for() -> None:
    """Rows that see inputs with a part gone give nearly what they gave with it."""
    true, values = inputs(), RANDOM.standard_normal((48, 256)).astype(np.float32)
    found = true + 0.1 * RANDOM.standard_normal(true.shape).astype(np.float32) - 0.2 * true
    moments = found.T @ found / np.float32(len(found))
    lacking = (true - found).T @ found / np.float32(len(found))
    moved = Gptq(moments).correct_weights(values, lacking)
    before, after = (np.square(found @ w.T - true @ values.T).mean() for w in (values, moved))
    assert after < 0.2 * before
