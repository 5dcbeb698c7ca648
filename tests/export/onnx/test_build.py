"""ONNX folders: the builder's graph with ggml's blocks, run by ONNX Runtime."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from gguf.quants import dequantize

from edgetune.diagnose.tensors import OnnxTensors
from edgetune.errors import InputError, Unsupported
from edgetune.export.onnx.blocks import read_matrices
from edgetune.export.onnx.build import (
    FAILING,
    build_graph,
    check_onnx_support,
    measure_overhead,
    tensor_bytes,
    write_weights,
)
from edgetune.export.onnx.frame import Frame, open_frame
from edgetune.quantize.formats.ggml import quantize_tensor
from edgetune.quantize.formats.nbits import (
    NBITS_TYPES,
    dequantize_nbits,
    layout_of,
    nbits_row_bytes,
    quantize_nbits,
    unpack_bits,
    unpack_rows,
)
from edgetune.quantize.plan import ONNX_SETTINGS, settings_of
from edgetune.runtimes import open_runtime
from edgetune.runtimes.genai_folder import find_graph
from tests.conftest import make_model

IDS = list(range(3, 90))


@pytest.fixture(scope="module")
def contracted(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with the part of a contract that ONNX folders carry."""
    folder = tmp_path_factory.mktemp("onnx") / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "contract.json").write_text(json.dumps({"stop_ids": [0, 2]}))
    return folder


@pytest.fixture(scope="module")
def float_folder(contracted: Path) -> Path:
    folder = contracted.parent / "fp32"
    build_graph(contracted, folder, contracted.parent / "scratch")
    return folder


@pytest.fixture(scope="module")
def frame(contracted: Path) -> Frame:
    return open_frame(contracted, contracted.parent / "builder")


def log_probs(path: Path) -> np.ndarray:
    runtime = open_runtime(path, threads=1)
    scores = runtime.logits(IDS).astype(np.float64)
    runtime.close()
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


def divergence(path: Path, reference: Path) -> float:
    wanted = log_probs(reference)
    return float((np.exp(wanted) * (wanted - log_probs(path))).sum(-1).mean())


def open_tensors(folder: Path) -> OnnxTensors:
    graph = find_graph(folder)
    return OnnxTensors(graph.parent, graph.name)


def test_float_graph_is_the_model(float_folder: Path, contracted: Path) -> None:
    assert divergence(float_folder, contracted) < 1e-9


def test_folder_holds_what_clients_read(float_folder: Path) -> None:
    names = {file.relative_to(float_folder).as_posix() for file in float_folder.rglob("*.*")}
    assert names >= {
        "onnx/model.onnx", "onnx/model.onnx_data", "genai_config.json", "tokenizer.json",
        "tokenizer_config.json", "chat_template.jinja", "config.json", "contract.json",
    }  # fmt: skip
    assert not {name for name in names if name.startswith("model.onnx")}  # nothing left behind
    config = json.loads((float_folder / "genai_config.json").read_text())
    assert config["model"]["eos_token_id"] == [0, 2]
    graph = onnx.load(find_graph(float_folder), load_external_data=False).graph
    cache = [value for value in graph.input if value.name.startswith("past_key_values.")]
    assert {value.type.tensor_type.shape.dim[-1].dim_value for value in cache} == {16}


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 1e-5), ("int8", 2e-3), ("int4", 0.1)])
def test_precisions_stay_close(
    precision: str, limit: float, frame: Frame, float_folder: Path, tmp_path: Path
) -> None:
    settings = ONNX_SETTINGS[precision]
    left = write_weights(frame, tmp_path / precision, settings, {})
    assert left == []
    assert 0 < divergence(tmp_path / precision, frame.folder) < limit
    runtime = open_runtime(tmp_path / precision, threads=1)
    assert len(list(runtime.stream(IDS[:9], 5))) == 5  # the cache works, not just a first pass
    runtime.close()
    whole = sum(f.stat().st_size for f in float_folder.glob("onnx/*"))
    assert sum(f.stat().st_size for f in (tmp_path / precision).glob("onnx/*")) < whole


def test_importance_reaches_the_blocks(frame: Frame, tmp_path: Path) -> None:
    importance = {"blk.0.attn_q.weight": np.geomspace(1, 1e4, 64, dtype=np.float32)}
    weights = []
    for name, given in (("plain", {}), ("weighed", importance)):
        write_weights(frame, tmp_path / name, ONNX_SETTINGS["int4"], given)
        graph = onnx.load(find_graph(tmp_path / name)).graph
        weights.append({each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer})
    changed = {
        name for name in weights[0] if not np.array_equal(weights[0][name], weights[1][name])
    }
    assert changed
    assert all(name.startswith("/model/layers.0/attn/qkv_proj") for name in changed)


@pytest.mark.parametrize(("kind", "number", "zero"), [("Q4_0", 2, 8), ("Q8_0", 8, 128)])
def test_blocks_hold_ggmls_numbers(kind: str, number: int, zero: int) -> None:
    values = np.random.default_rng(0).standard_normal((6, 96), dtype=np.float32)
    raw = quantize_tensor(values, kind)
    packed = unpack_rows(raw, kind)
    codes = unpack_bits(packed.quants_RBY, 4 if kind == "Q4_0" else 8)
    found = (codes.astype(np.float32) - zero) * packed.scales_RB.astype(np.float32)[..., None]
    assert np.array_equal(found.reshape(6, 96), dequantize(raw, number))


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def wide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Frame:
    """A model whose rows hold blocks of 128; its float32 graph lies beside it."""
    folder = tmp_path_factory.mktemp("wide")
    make_model(folder / "model", layers=1, hidden=256, tied=request.param)
    build_graph(folder / "model", folder / "fp32", folder / "scratch")
    return open_frame(folder / "model", folder / "scratch")


@pytest.mark.parametrize("kind", NBITS_TYPES)
def test_every_type_runs_as_weights_head_and_embedding(
    kind: str, wide: Frame, tmp_path: Path
) -> None:
    """The graph says what torch says with the rounded weights, and a tied table is there once."""
    settings = settings_of(dict.fromkeys(read_matrices(wide), kind))
    left = write_weights(wide, tmp_path / "made", settings, {})
    assert left == []
    again = open_tensors(tmp_path / "made")
    plain = open_tensors(wide.folder.parent / "fp32")
    held = {name for name in again.entries if name.endswith(("MatMul", "embed_tokens.weight"))}
    assert held == {name for name in plain.entries if name.endswith(("MatMul", "tokens.weight"))}
    for name in held:
        matrix = plain.read(name)
        rows = np.ascontiguousarray(matrix.T if name.endswith("MatMul") else matrix)
        rounded = dequantize_nbits(quantize_nbits(rows, kind), kind)
        assert np.array_equal(again.read(name), rounded.T if name.endswith("MatMul") else rounded)
    runtime = open_runtime(tmp_path / "made", threads=1)
    assert len(list(runtime.stream(IDS[:9], 5))) == 5
    runtime.close()
    limit = {8: 5e-3, 4: 1.0, 2: 3.0}[layout_of(kind).bits]
    assert divergence(tmp_path / "made", wide.folder) < limit


def test_overhead_is_the_size_without_blocks(wide: Frame, tmp_path: Path) -> None:
    matrices = read_matrices(wide)
    sizes = {}
    for kind in ("uint4_g32", "Q4_0", "int8_g128"):
        types = dict.fromkeys(matrices, kind)
        rows = {n: len(m) * nbits_row_bytes(m.shape[1], kind) for n, m in matrices.items()}
        over, header = measure_overhead(wide, tmp_path / "frame", settings_of(types), rows)
        write_weights(wide, tmp_path / kind, settings_of(types), {})
        size = sum(file.stat().st_size for file in (tmp_path / kind).rglob("*") if file.is_file())
        assert size == over + sum(rows.values())
        assert size - header == tensor_bytes(tmp_path / kind) > sum(rows.values())
        sizes[kind] = over
    assert max(sizes.values()) == sizes["uint4_g32"]
    assert sizes["uint4_g32"] - min(sizes.values()) < 300 * len(matrices)


def test_rows_of_no_whole_blocks_stay_float(contracted: Path, tmp_path: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    model = tmp_path / "model"
    shutil.copytree(contracted, model)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=306, hidden_size=48, intermediate_size=96, num_hidden_layers=1,
        num_attention_heads=3, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(model)
    frame = open_frame(model, tmp_path / "scratch")
    left = write_weights(frame, tmp_path / "int4", ONNX_SETTINGS["int4"], {})
    named = {fallback["tensor"]: fallback for fallback in left}
    assert named["/model/layers.0/mlp/gate_proj/MatMul"]["why"].startswith("rows of 48")
    assert "/model/layers.0/mlp/down_proj/MatMul" not in named  # rows of 96
    assert divergence(tmp_path / "int4", model) < 0.1


def test_a_plan_of_another_model_is_refused(wide: Frame, tmp_path: Path) -> None:
    settings = settings_of({"/model/layers.7/mlp/up_proj/MatMul": "Q8_0"})
    with pytest.raises(InputError, match="types for 1 nodes that the graph has not"):
        write_weights(wide, tmp_path / "made", settings, {})


def test_refuses_by_name(tiny_model: Path, tmp_path: Path) -> None:
    assert check_onnx_support(tiny_model) == []
    shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    config |= {"architectures": ["NobodyForCausalLM"], "head_dim": 8}
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    faults = check_onnx_support(tmp_path / "model")
    assert "NobodyForCausalLM" in faults[0]
    assert "head size 8" in faults[1]


def test_families_that_the_builder_fails_on_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    for architecture in FAILING:
        path.write_text(json.dumps({**config, "architectures": [architecture]}))
        (fault,) = check_onnx_support(tmp_path / "model")
        assert fault.startswith(architecture)


def test_a_failing_builder_is_unsupported_and_silent(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model/model.safetensors").unlink()
    with pytest.raises(Unsupported, match="builder fails"):
        build_graph(tmp_path / "model", tmp_path / "out", tmp_path / "scratch")
    assert capfd.readouterr() == ("", "")


@pytest.mark.assets
def test_stories260k_is_refused_before_any_work(assets: Path) -> None:
    (fault,) = check_onnx_support(assets / "models/stories260K")
    assert "head size 8" in fault


@pytest.mark.parametrize(
    ("settings", "dtype", "graph"),
    [
        (ONNX_SETTINGS["fp16"], "fp16", "onnx/model_fp16.onnx"),
        (ONNX_SETTINGS["int8"], "q8", "onnx/model_quantized.onnx"),
        (ONNX_SETTINGS["int4"], "q4", "onnx/model_q4.onnx"),
        (settings_of({}), "q8", "onnx/model_quantized.onnx"),
        (settings_of({"/model/layers.0/mlp/up_proj/MatMul": "Q4_0"}), "q4", "onnx/model_q4.onnx"),
    ],
)
def test_clients_find_graph_weights_template_and_class(
    settings: dict[str, Any], dtype: str, graph: str, frame: Frame, tmp_path: Path
) -> None:
    """transformers.js goes by names (its src/utils/dtypes.js), genai by its configuration."""
    made = tmp_path / "made"
    write_weights(frame, made, settings, {})
    config = json.loads((made / "config.json").read_text())
    said = config.pop("transformers.js_config")
    assert said == {"dtype": dtype, "use_external_data_format": True}
    assert config == json.loads((frame.folder / "config.json").read_text())
    genai = json.loads((made / "genai_config.json").read_text())
    assert genai["model"]["decoder"]["filename"] == graph
    places = {
        entry.value
        for tensor in onnx.load(made / graph, load_external_data=False).graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    assert places == {Path(graph).name + "_data"}
    assert {file.name for file in (made / "onnx").iterdir()} == {Path(graph).name, *places}
    tokenizer = json.loads((made / "tokenizer_config.json").read_text())
    assert tokenizer["chat_template"] == (made / "chat_template.jinja").read_text()
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "", "a\\model.onnx"])
def test_a_graph_outside_its_folder_is_refused(
    name: str, float_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(float_folder, tmp_path / "made")
    path = tmp_path / "made" / "genai_config.json"
    config = json.loads(path.read_text())
    config["model"]["decoder"]["filename"] = name
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match="not in the folder"):
        open_runtime(tmp_path / "made")
