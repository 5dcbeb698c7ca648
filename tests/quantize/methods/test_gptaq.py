"""Matrices rounded one after the other: each makes up for what was rounded before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgetune.export.gguf.f32 import open_model
from edgetune.export.gguf.header import header_of
from edgetune.export.gguf.support import find_architecture
from edgetune.log import Log
from edgetune.models import offload
from edgetune.models.batching import batch_sequences
from edgetune.models.load import load_model
from edgetune.models.offload import load_or_offload
from edgetune.models.parameters import is_streamed
from edgetune.models.ref import ModelRef
from edgetune.quantize.calibration import layer_passes
from edgetune.quantize.calibration.activations import collect_activation_stats
from edgetune.quantize.calibration.kl_meter import KLMeter
from edgetune.quantize.calibration.layer_passes import LayerHessians, LayerPasses, open_hessians
from edgetune.quantize.calibration.rows import Texts
from edgetune.quantize.candidates import Candidates
from edgetune.quantize.methods.gptaq import (
    _find_order,
    quantize_gptaq,
    quantize_sequential,
)
from edgetune.quantize.methods.gptq import find_readers
from edgetune.quantize.search.problem import count_parameters
from edgetune.quantize.search.sensitivity import Search
from edgetune.quantize.weights import find_weights
from tests.conftest import make_model
from tests.quantize.methods.jobs import make_job
from tests.tiny_models import make_tiny_model

QUIET = Log(quiet=True)
PARTS = {
    "attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64),
    "ffn_gate": (128, 64), "ffn_up": (128, 64), "ffn_down": (64, 128),
}  # fmt: skip


def make(folder: Path, kind: str) -> tuple[Any, Candidates, dict[str, str], list[list[int]]]:
    """A model of two layers, what its matrices can be, and rows of several lengths."""
    model = load_model(ModelRef(make_model(folder / "model", layers=2, hidden=64))).eval()
    shapes = {
        f"blk.{layer}.{name}.weight": tuple(module.weight.shape)
        for layer, one in enumerate(model.model.layers)
        for name, module in zip(
            PARTS,
            (
                one.self_attn.q_proj, one.self_attn.k_proj, one.self_attn.v_proj,
                one.self_attn.o_proj, one.mlp.gate_proj, one.mlp.up_proj, one.mlp.down_proj,
            ),
            strict=True,
        )
    }  # fmt: skip
    shapes["token_embd.weight"] = tuple(model.get_input_embeddings().weight.shape)
    weights = find_weights(model, "llama", 2, shapes)
    random = np.random.default_rng(0)
    rows = [random.integers(5, 300, n).tolist() for n in random.integers(8, 40, 200)]
    readers = find_readers(model, weights)
    candidates = Candidates(model, weights, folder / "candidates", readers=readers)
    candidates.make((kind,), QUIET, LayerHessians(model, rows, folder))
    return model, candidates, dict.fromkeys(candidates.weights, kind), rows


def last_hidden(model: Any, rows: list[list[int]]) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat(
            [model.model(torch.tensor([ids])).last_hidden_state.reshape(-1, 64) for ids in rows]
        )


def test_captured_inputs_equal_those_of_a_full_pass(tmp_path: Path) -> None:
    model, _, _, rows = make(tmp_path, "Q4_0")
    batches = [(ids, real) for _, ids, real in batch_sequences(rows)]
    passes = LayerPasses(model, batches, tmp_path)
    for name, layer in (("self_attn.q_proj", 0), ("mlp.down_proj", 1), ("self_attn.o_proj", 1)):
        module = f"model.layers.{layer}.{name}"
        found = [flat_NC for flat_NC, _ in passes.inputs(module, layer)]
        seen: list[torch.Tensor] = []
        handle = model.get_submodule(module).register_forward_pre_hook(
            lambda _m, given, seen=seen: seen.append(given[0])
        )
        with torch.no_grad():
            for ids_BT, real_BT in batches:
                model(ids_BT, use_cache=False)
                seen[-1] = seen[-1][real_BT]
        handle.remove()
        assert all(torch.equal(a, b) for a, b in zip(found, seen, strict=True))
    assert not any("forward" in layer.__dict__ for layer in model.model.layers)


def test_matrices_of_one_input_are_computed_together(tmp_path: Path) -> None:
    model, candidates, types, rows = make(tmp_path, "Q4_0")
    groups = _find_order(model, candidates, types, torch.tensor([rows[0]]))
    kinds = [[name.split(".")[2] for name in group.tensors] for group in groups]
    inputs = [["attn_q", "attn_k", "attn_v"], ["attn_output"], ["ffn_gate", "ffn_up"], ["ffn_down"]]
    assert kinds == 2 * inputs


def test_layer_outputs_are_closer_to_the_model(tmp_path: Path) -> None:
    model, candidates, types, rows = make(tmp_path, "Q4_0")
    calibration, held_out = rows[:150], rows[150:]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = quantize_sequential(model, candidates, types, calibration, QUIET)
    assert set(made) == set(types) - {"token_embd.weight"}
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    true = last_hidden(model, held_out)
    off = []
    for raw in ({n: candidates.load(n, k) for n, k in types.items()}, made):
        for name, values in candidates.as_parameters(raw, types).items():
            model.get_parameter(name).data = values
        off.append(float((last_hidden(model, held_out) - true).square().mean()))
    assert off[1] < 0.92 * off[0], off


def test_a_result_of_higher_kl_is_not_kept(tmp_path: Path) -> None:
    """Calibrated on a token that no row has, it raises the KL."""
    model, candidates, types, rows = make(tmp_path, "Q8_0")
    texts = Texts([[3] * 30], [], rows[:20])
    raw, facts = quantize_gptaq(make_job(candidates, types, texts, loaded=model))
    alone = {name: candidates.load(name, kind) for name, kind in types.items()}
    assert not facts["kept"] and facts["kl_before"] < facts["kl_after"], facts
    assert all(np.array_equal(raw[name], alone[name]) for name in types)


@pytest.mark.parametrize("family", ["gpt2", "phi3", "gemma2", "mixtral"])
def test_families_whose_layers_are_built_differently(family: str, tmp_path: Path) -> None:
    """Matrices that lie transposed or fused, norms after a block, experts."""
    folder = make_tiny_model(family, tmp_path / "model", real_tokenizer=False)
    model = load_model(ModelRef(folder)).eval()
    found = find_architecture(folder)
    assert found is not None
    source = open_model(folder, tmp_path / "frame.gguf", header_of(folder, "twin"))
    shapes = {name: tuple(tensor.shape) for name, tensor in source.tensors.items()}
    weights = find_weights(model, *found[:2], shapes)
    random = np.random.default_rng(0)
    rows = [random.integers(5, 300, n).tolist() for n in random.integers(8, 40, 120)]
    readers = find_readers(model, weights)
    candidates = Candidates(model, weights, tmp_path / "candidates", readers=readers)
    candidates.make(("Q4_0",), QUIET, LayerHessians(model, rows[:100], tmp_path))
    types = dict.fromkeys(candidates.weights, "Q4_0")
    texts = Texts(rows[:100], [], rows[100:])
    _, facts = quantize_gptaq(make_job(candidates, types, texts, loaded=model))
    assert facts["kept"] and facts["kl_after"] < 0.95 * facts["kl_before"], facts


@pytest.mark.parametrize("family", ["qwen2", "gpt2"])
def test_a_model_on_disk_gives_the_same_bytes_and_kl(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read as it computes, tied head included, and what a layer gives kept in files."""
    folder = make_tiny_model(family, tmp_path / "model", real_tokenizer=False)
    found = find_architecture(folder)
    assert found is not None
    source = open_model(folder, tmp_path / "frame.gguf", header_of(folder, "twin"))
    shapes = {name: tuple(tensor.shape) for name, tensor in source.tensors.items()}
    random = np.random.default_rng(0)
    rows = [random.integers(5, 300, n).tolist() for n in random.integers(8, 40, 120)]

    def quantize(scratch: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        model = load_or_offload(folder)
        assert is_streamed(model) == (scratch.name == "streamed")
        stats = collect_activation_stats(model, rows[:100], QUIET)
        weights = find_weights(model, *found[:2], shapes, stats)
        assert count_parameters(model) == sum(int(np.prod(shape)) for shape in shapes.values())
        readers = find_readers(model, weights)
        candidates = Candidates(model, weights, scratch, readers=readers)
        with open_hessians(model, rows[:100], "cpu", scratch) as hessians:
            candidates.make(("Q8_0", "Q4_0"), QUIET, hessians)
        search = Search(candidates, KLMeter(model, rows, 512), QUIET)
        search.estimate()
        types = search.best_for_bytes(
            candidates.bytes_of(dict.fromkeys(candidates.weights, "Q4_0")) * 5 // 4
        ).types
        texts = Texts(rows[:100], [], rows[100:])
        raw, facts = quantize_gptaq(make_job(candidates, types, texts, loaded=model))
        return dict(raw), {"types": types, **facts}

    wanted, facts = quantize(tmp_path / "held")
    monkeypatch.setattr(offload, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(layer_passes, "KEPT_BYTES", 0)
    found_raw, found_facts = quantize(tmp_path / "streamed")
    assert found_facts["types"] == facts["types"] and len(set(facts["types"].values())) == 2
    assert all(np.array_equal(found_raw[name], rows) for name, rows in wanted.items())
    for key in ("kl_before", "kl_after"):
        assert found_facts[key] == pytest.approx(facts[key], rel=1e-5)
