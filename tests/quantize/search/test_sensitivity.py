"""Harm measured, ranked and spent: on a random model whose layers matter differently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgetune.errors import GateFailed
from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf
from edgetune.export.gguf.support import find_architecture
from edgetune.export.gguf.write import Quantization, write_gguf
from edgetune.log import Log
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.quantize.calibration import kl_meter
from edgetune.quantize.calibration.activations import collect_activation_stats
from edgetune.quantize.calibration.imatrix import name_for_gguf
from edgetune.quantize.calibration.kl_meter import KLMeter
from edgetune.quantize.candidates import Candidates
from edgetune.quantize.formats.types import GGUF
from edgetune.quantize.search.budget import parse_budget
from edgetune.quantize.search.gguf import GgufSource, build_gguf_problem
from edgetune.quantize.search.problem import SearchResult, SearchSettings, search_types
from edgetune.quantize.search.sensitivity import Search
from edgetune.quantize.weights import find_weights
from edgetune.runtimes.gguf_header import open_gguf
from tests.conftest import make_model

QUIET = Log(None, quiet=True)
SEQUENCES = [[(7 * n + 3 * t * t) % 290 + 5 for t in range(24)] for n in range(16)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    make_model(folder / "model", layers=3, hidden=256)
    convert_gguf(folder / "model", folder / "F32.gguf", GgufHeader("searched"))
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    model = load_model(ModelRef(folder / "model"))
    with torch.no_grad():
        for parameter in model.model.layers[1].parameters():
            parameter.mul_(0.05)  # a layer that says little
    model.save_pretrained(folder / "model")
    convert_gguf(folder / "model", folder / "F32.gguf", GgufHeader("searched"))
    return model


def run(model: Any, folder: Path, *budgets: str) -> SearchResult:
    architecture, blocks, tied = find_architecture(folder / "model")  # type: ignore[misc]
    energy = collect_activation_stats(model, SEQUENCES, QUIET)
    named = name_for_gguf(energy, architecture, blocks, tied)
    importance = {
        name: (sums / named.counts[name]).astype(np.float32) for name, sums in named.sums.items()
    }
    settings = SearchSettings(
        model, SEQUENCES, 256, GGUF.names, [parse_budget(text) for text in budgets],
        folder / "scratch", 0,
    )  # fmt: skip
    source = GgufSource(open_gguf(folder / "F32.gguf"), architecture, blocks, energy, importance)
    return search_types(build_gguf_problem(source, settings), settings, QUIET)


def test_layers_before_a_change_are_not_recomputed_with_equal_results(model: Any) -> None:
    meter = KLMeter(model, SEQUENCES, 200)
    assert meter.positions == 200
    assert meter.keep() == pytest.approx(0, abs=1e-9)
    name = "model.layers.2.mlp.down_proj.weight"
    change = {name: model.get_parameter(name).detach() * 1.1}
    whole, rest = meter.measure(change), meter.measure(change, first_layer=2)
    assert whole == pytest.approx(rest, rel=1e-6) and whole > 1e-6
    assert meter.measure({}) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", ["model.layers.2.mlp.up_proj.weight", "model.embed_tokens.weight"])
def test_a_large_vocabulary_cuts_no_positions(
    name: str, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference is computed anew, from the head as it was, where it would not fit in memory."""
    change = {name: model.get_parameter(name).detach() * 1.1}
    kept = KLMeter(model, SEQUENCES, 384)
    monkeypatch.setattr(kl_meter, "LOGIT_BYTES", 4 * model.config.vocab_size * 10)
    monkeypatch.setattr(kl_meter, "CHUNK_BYTES", 4 * model.config.vocab_size * 7)
    anew = KLMeter(model, SEQUENCES, 384)
    assert anew.positions == kept.positions == 384 and anew.counts == [24] * 16
    for first_layer in (0, 2) if "layers.2" in name else (0,):
        for meter in (kept, anew):
            meter.keep()
        wanted = kept.measure(change, first_layer)
        assert wanted > 1e-6 and anew.measure(change, first_layer) == pytest.approx(wanted, 1e-5)
        assert anew.measure_rows(change) == pytest.approx(kept.measure_rows(change), rel=1e-4)


def test_weights_that_overflow_are_infinitely_far(model: Any) -> None:
    name = "model.layers.0.mlp.down_proj.weight"
    meter = KLMeter(model, SEQUENCES, 48)
    assert meter.measure({name: torch.full_like(model.get_parameter(name), torch.inf)}) == np.inf


def test_finds_the_matrices_under_their_names(model: Any, folder: Path) -> None:
    source = open_gguf(folder / "F32.gguf")
    shapes = {name: tuple(t.shape) for name, t in source.tensors.items()}
    found = {weight.tensor: weight for weight in find_weights(model, "llama", 3, shapes)}
    assert set(found) == {name for name, shape in shapes.items() if len(shape) > 1}
    assert found["blk.2.ffn_down.weight"].layer == 2
    for name in ("blk.1.ffn_up.weight", "token_embd.weight", "blk.0.attn_q.weight"):
        mine, theirs = found[name].read(model), source.read(name)
        # llama.cpp's converter puts rows of q and k in another order; blocks lie within rows
        assert np.array_equal(np.sort(mine, axis=0), np.sort(theirs, axis=0))


def test_spends_bytes_where_they_matter(model: Any, folder: Path, tmp_path: Path) -> None:
    result = run(model, folder, "bytes=Q4_K_M", "kl=0.02", "bits=4")
    stock = {row["name"]: row for row in result.facts["stock"]}
    found = {row["name"]: row for row in result.facts["results"]}
    best = found["auto-Q4_K_M"]
    assert best["bytes"] <= stock["Q4_K_M"]["bytes"]
    assert best["kl_measured"] < 0.8 * stock["Q4_K_M"]["kl_measured"]
    assert found["auto-kl0.02"]["kl_measured"] <= 0.02
    assert found["auto-4bpw"]["bits_per_weight"] <= 4
    assert result.facts["rank_correlation"] > 0.9
    bytes_of = [row["bytes"] for row in result.facts["frontier"]]
    assert bytes_of == sorted(bytes_of)
    source, path = open_gguf(folder / "F32.gguf"), tmp_path / "best.gguf"
    write_gguf(source, path, Quantization("auto-Q4_K_M", result.types["auto-Q4_K_M"]))
    assert path.stat().st_size <= best["bytes"] + 64
    assert "general.file_type" not in open_gguf(path).keys


def test_a_budget_nothing_meets_names_the_smallest(
    model: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before_the_work:
        before_the_work.delattr(Candidates, "make")
        for budget in ("bytes=20KB", "bits=0.5"):
            with pytest.raises(GateFailed, match=r"smallest file possible has .* over the budget"):
                run(model, folder, budget)
    with pytest.raises(GateFailed, match=r"lowest KL that these types reach is \d"):
        run(model, folder, "kl=1e-30")


def test_a_kl_that_every_mix_holds_gets_the_smallest_file(model: Any, folder: Path) -> None:
    result = run(model, folder, "kl=30", "kl=10", "kl=0.3")
    least = {"Q2_K", "F32"}
    for name in ("auto-kl30", "auto-kl10"):
        assert set(result.types[name].values()) == least
    found = {row["name"]: row for row in result.facts["results"]}
    assert found["auto-kl10"]["bytes"] == min(row["bytes"] for row in result.facts["frontier"])
    assert found["auto-kl0.3"]["kl_measured"] <= 0.3


def test_a_type_whose_range_a_tensor_leaves_is_not_chosen(
    model: Any, folder: Path, tmp_path: Path
) -> None:
    """F16 of a large weight is infinite, and harm that is no number compares as it likes."""
    name = "model.layers.0.mlp.down_proj.weight"
    weight = model.get_parameter(name)
    before = weight.detach().clone()
    weights = find_weights(model, "llama", 3, {"blk.0.ffn_down.weight": tuple(weight.shape)})
    try:
        weight.data[0, 0] = 1e6
        candidates = Candidates(model, weights, tmp_path)
        candidates.make(["F16", "Q8_0", "Q4_K"], QUIET)
        search = Search(candidates, KLMeter(model, SEQUENCES, 96), QUIET)
        search.estimate()
        best = search.best_for_bytes(10**9)
    finally:
        weight.data = before
    assert best.types["blk.0.ffn_down.weight"] != "F16" and np.isfinite(best.kl_measured)
