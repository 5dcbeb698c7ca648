"""Squared inputs: the same for rows together or apart, in memory or streamed, expert by expert."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgetune.log import Log
from edgetune.models import batching, offload
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.quantize.calibration.activations import ActivationStats, collect_activation_stats
from edgetune.quantize.calibration.imatrix import name_for_gguf, read_imatrix, write_imatrix
from edgetune.quantize.calibration.layer_passes import LayerHessians
from tests.tiny_models import make_tiny_model

SEQUENCES = [[5, 9, 11, 30, 44], [7, 8, 120], list(range(3, 60)), [44, 2, 9], [7]]


def measure(model: Any) -> ActivationStats:
    return collect_activation_stats(model, SEQUENCES, Log(quiet=True))


def assert_equal(found: ActivationStats, wanted: ActivationStats) -> None:
    assert (found.sequences, found.longest) == (wanted.sequences, wanted.longest)
    assert found.sums.keys() == wanted.sums.keys()
    for name, sums in wanted.sums.items():
        assert np.array_equal(found.counts[name], wanted.counts[name]), name
        np.testing.assert_allclose(found.sums[name], sums, rtol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_rows_together_are_rows_apart(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tiny_model(name, tmp_path / name, real_tokenizer=False)
    model = load_model(ModelRef(folder))
    together = measure(model)
    assert sum(map(len, SEQUENCES)) == next(iter(together.counts.values()))
    monkeypatch.setattr(batching, "BATCH_TOKENS", 1)
    assert_equal(together, measure(model))
    monkeypatch.setattr(batching, "BATCH_TOKENS", 12)
    monkeypatch.setattr(offload, "IN_MEMORY_BYTES", 0)
    assert_equal(together, measure(offload.load_or_offload(folder)))
    ids = torch.tensor([SEQUENCES[0]])
    assert model(ids).logits.shape[-1] == model.config.vocab_size  # the head is itself again


def test_batches_hold_each_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "BATCH_TOKENS", 12)
    seen = []
    for numbers, ids_BT, real_BT in batching.batch_sequences(SEQUENCES):
        assert ids_BT.numel() <= 12 or len(numbers) == 1
        for number, ids_T, real_T in zip(numbers, ids_BT, real_BT, strict=True):
            assert ids_T[real_T].tolist() == SEQUENCES[number]
        seen += numbers
    assert sorted(seen) == list(range(len(SEQUENCES)))
    for _, _, real_BT in batching.batch_sequences(SEQUENCES, padded=False):
        assert real_BT.all()


@pytest.mark.parametrize("name", ["qwen2moe", "mixtral"])
def test_each_expert_has_the_statistics_of_its_tokens(name: str, tmp_path: Path) -> None:
    folder = make_tiny_model(name, tmp_path / name, real_tokenizer=False)
    model = load_model(ModelRef(folder))
    before = model.config._experts_implementation
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    experts = model.model.layers[1].mlp.experts
    handle = experts.register_forward_pre_hook(lambda _, given: seen.append(given[:2]))
    energy = measure(model)
    handle.remove()
    assert model.config._experts_implementation == before

    key = "model.layers.1.mlp.experts"
    sums, counts = energy.sums[f"{key}.gate_up_proj"], energy.counts[f"{key}.gate_up_proj"]
    inner = energy.sums[f"{key}.down_proj"]
    assert counts.sum() == sum(map(len, SEQUENCES)) * model.config.num_experts_per_tok
    for expert in range(len(counts)):
        parts = [hidden[(index == expert).any(1)] for hidden, index in seen]
        mine = torch.cat(parts)
        assert counts[expert] == len(mine) == energy.counts[f"{key}.down_proj"][expert]
        np.testing.assert_allclose(sums[expert], mine.double().square().sum(0), rtol=1e-5)
        with torch.no_grad():
            gate, up = (mine @ experts.gate_up_proj[expert].T).chunk(2, -1)
        entered = (experts.act_fn(gate) * up).double().square().sum(0)
        np.testing.assert_allclose(inner[expert], entered, rtol=1e-4, atol=1e-9)


def test_experts_in_the_file(tmp_path: Path) -> None:
    """[experts, columns] and a count each, as llama.cpp's imatrix tool writes them."""
    from gguf import GGUFReader

    energy = ActivationStats(sequences=1, longest=4)
    energy.add("model.layers.0.mlp.experts.gate_up_proj", torch.ones(3, 8) * 2, (2,), 1)
    energy.add("model.layers.0.mlp.experts.down_proj", torch.ones(3, 4), (2,), 1)
    named = name_for_gguf(energy, "qwen2moe", 1, tied=False)
    assert set(named.sums) == {f"blk.0.ffn_{one}_exps.weight" for one in ("gate", "up", "down")}
    write_imatrix(named, tmp_path / "imatrix.gguf", "x")
    shapes = {one.name: one.shape.tolist() for one in GGUFReader(tmp_path / "imatrix.gguf").tensors}
    assert shapes["blk.0.ffn_up_exps.weight.in_sum2"] == [8, 2]
    assert shapes["blk.0.ffn_up_exps.weight.counts"] == [1, 2]
    found = read_imatrix(tmp_path / "imatrix.gguf")["blk.0.ffn_up_exps.weight"]
    assert np.array_equal(found, [[1] * 8, [4] * 8])  # no token reached the first


def test_diagonals_of_hessians_are_the_importance(tiny_model: Path, tmp_path: Path) -> None:
    model = load_model(ModelRef(tiny_model))
    stats = measure(model)
    hessians = LayerHessians(model, SEQUENCES, tmp_path)
    for layer in range(3):
        at_work = f"model.layers.{layer}." if layer < 2 else "lm_head"
        modules = [name for name in stats.sums if name.startswith(at_work)]
        found = hessians.of(layer, modules)
        assert list(found) == modules and modules
        for name, hessian_CC in found.items():
            means = stats.means(name)
            np.testing.assert_allclose(hessian_CC.diagonal(), means, rtol=1e-4, atol=1e-9)
            assert np.array_equal(hessian_CC, hessian_CC.T)
