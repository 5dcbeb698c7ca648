"""ONNX folders: the graph of onnxruntime-genai's builder, its weights as the plan says.

Every precision is the builder's float32 graph with other weights (see :mod:`.blocks`): its own
float16 graph fails on the CPU at the second token, its own int4 has twice the KL.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgetune.export.onnx.blocks import Quantize, quantize_graph
from edgetune.export.onnx.float16 import narrow_graph
from edgetune.export.onnx.folder import (
    data_name,
    data_type,
    finish_folder,
    graph_name,
    write_graph,
)
from edgetune.export.onnx.frame import Frame, head_size, open_frame
from edgetune.export.onnx.store import WeightStore
from edgetune.quantize.formats.nbits import nbits_row_bytes, quantize_nbits

HEAD_SIZE_STEP = 16  # ONNX Runtime's GroupQueryAttention on CPU
# Text models the builder of onnxruntime-genai 0.18 dispatches on.
ARCHITECTURES = (
    "Ernie4_5ForCausalLM", "GemmaForCausalLM", "GraniteForCausalLM", "HunYuanDenseV1ForCausalLM",
    "InternLM2ForCausalLM", "LlamaForCausalLM", "MistralForCausalLM", "NemotronForCausalLM",
    "OlmoForCausalLM", "Phi3ForCausalLM", "PhiForCausalLM", "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
)  # fmt: skip
#: Those that it dispatches on and that then fail, tried with twins of each (docs/verified.md).
FAILING = {
    "Gemma2ForCausalLM": "ONNX Runtime's attention wants a window's cache to be there before the "
    "first token, which a plain session has not",
    "Gemma3ForCausalLM": "the builder does not read two rope settings (transformers 5's "
    "rope_parameters of each layer type)",
    "SmolLM3ForCausalLM": "the builder gives its attention no position ids",
}


def check_onnx_support(folder: Path) -> list[str]:
    """Return why the model in ``folder`` cannot be an ONNX folder; empty when it can."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architecture = (config.get("architectures") or ["?"])[0]
    faults = []
    if architecture in FAILING:
        faults.append(f"{architecture}: {FAILING[architecture]}")
    elif architecture not in ARCHITECTURES:
        faults.append(
            f"the onnxruntime-genai builder does not know the architecture {architecture}"
        )
    size = head_size(config)
    if size % HEAD_SIZE_STEP:
        faults.append(
            f"head size {size}: ONNX Runtime's attention needs a multiple of {HEAD_SIZE_STEP}"
        )
    if not (folder / "tokenizer.json").is_file():
        faults.append("there is no tokenizer.json, which ONNX clients tokenize with")
    return faults


def build_graph(folder: Path, target: Path, scratch: Path) -> None:
    """Write the model as an ONNX folder of float32 weights.

    Args:
        folder: Hugging Face folder with safetensors, tokenizer and contract.
        target: folder to write; must not exist.
        scratch: folder for the builder's temporary files.

    Raises:
        Unsupported: the builder refuses the model.
    """
    write_weights(open_frame(folder, scratch), target, {"weights": "F32"}, {})


def write_weights(
    frame: Frame,
    target: Path,
    settings: dict[str, Any],
    importance: Mapping[str, np.ndarray],
    quantize: Quantize = quantize_nbits,
) -> list[dict[str, str]]:
    """Write a graph as an ONNX folder, one weight in memory at a time.

    Args:
        frame: of the model.
        target: folder to write; must not exist.
        settings: of the plan.
        importance: GGUF tensor name to column weights; may be empty.
        quantize: what makes the blocks' bytes.

    Returns:
        The weights that stayed float32, and why.
    """
    graph = target / graph_name(data_type(settings))
    graph.parent.mkdir(parents=True)
    with WeightStore(graph.with_name(data_name(graph)), data_name(graph)) as store:
        return _write(frame, target, store, settings, importance, quantize)


def _write(
    frame: Frame,
    target: Path,
    store: WeightStore,
    settings: dict[str, Any],
    importance: Mapping[str, np.ndarray],
    quantize: Quantize,
) -> list[dict[str, str]]:
    fallbacks: list[dict[str, str]] = []
    if settings["weights"] == "F32":
        nodes = list(frame.model.graph.node)
        for name in frame.shapes:
            store.add(name, frame.read(name))
    elif settings["weights"] == "F16":
        nodes, fallbacks = narrow_graph(frame, store)
    else:
        nodes, fallbacks = quantize_graph(frame, store, settings, importance, quantize)
    model = onnx.ModelProto()
    model.CopyFrom(frame.model)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(store.tensors)
    dtype = data_type(settings)
    write_graph(model, target / graph_name(dtype))
    for file in frame.files.iterdir():
        if file.is_file():
            shutil.copyfile(file, target / file.name)
    finish_folder(frame.folder, target, dtype)
    return fallbacks


def measure_overhead(
    frame: Frame, target: Path, settings: dict[str, Any], rows: Mapping[str, int]
) -> tuple[int, int]:
    """Return the bytes of an ONNX folder besides the blocks of the nodes that have a type.

    The second number is how many of them are no tensor's: graph, tokenizer and configurations.

    The folder is written without its weights' file: graph, tokenizer and configurations are its
    size too, as the report counts it. Nodes and file offsets are named by type, so other types than
    those of ``settings`` can take some bytes per matrix more or less.

    Args:
        frame: of the model.
        target: folder to write; it is removed again.
        settings: with ``types``.
        rows: node name to how many bytes its blocks have.
    """
    kinds = {each.name: each.data_type for each in frame.model.graph.initializer}

    def blank(name: str) -> np.ndarray:
        kind = onnx.helper.tensor_dtype_to_np_dtype(kinds[name])
        return np.broadcast_to(np.zeros((), kind), frame.shapes[name])

    shutil.rmtree(target, ignore_errors=True)
    graph = target / graph_name(data_type(settings))
    graph.parent.mkdir(parents=True)
    store = WeightStore(None, data_name(graph))
    _write(replace(frame, read=blank), target, store, settings, {}, _blank)
    header = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    shutil.rmtree(target)
    return header + store.bytes - sum(rows.values()), header


def tensor_bytes(folder: Path) -> int:
    """Return the bytes of an ONNX folder's external data, which hold every matrix."""
    data = [f for f in folder.rglob("*") if ".onnx" in f.name and f.name.endswith("data")]
    return sum(file.stat().st_size for file in data)


def _blank(matrix: np.ndarray, kind: str, _: np.ndarray | None, name: str) -> np.ndarray:
    return np.zeros((len(matrix), nbits_row_bytes(matrix.shape[1], kind)), np.uint8)
