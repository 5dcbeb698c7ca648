"""ONNX folders: the graph of onnxruntime-genai's builder, its weights as the plan says.

The builder is called in process (importing it takes longer than building) and once: it makes the
float32 graph, and the other precisions are that graph with other weights (see :mod:`.onnx_blocks`).
Its own float16 graph fails on the CPU at the second token, its own int4 has twice the KL.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgetune.errors import Unsupported, raise_machine_fault
from edgetune.export.onnx.blocks import Quantize, narrow_graph, quantize_graph, read_matrices
from edgetune.export.onnx.folder import (
    data_name,
    data_type,
    finish_folder,
    graph_name,
    move_graph,
)
from edgetune.models.checkpoint import plain_folder
from edgetune.quantize.formats.nbits import nbits_row_bytes, quantize_nbits
from edgetune.runtimes.genai_folder import find_graph

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
_BUILT = "model.onnx"  # the builder's name for a graph


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
    size = _head_size(config)
    if size % HEAD_SIZE_STEP:
        faults.append(
            f"head size {size}: ONNX Runtime's attention needs a multiple of {HEAD_SIZE_STEP}"
        )
    if not (folder / "tokenizer.json").is_file():
        faults.append("there is no tokenizer.json, which ONNX clients tokenize with")
    return faults


def build_graph(folder: Path, target: Path, scratch: Path, adapter: Path | None = None) -> None:
    """Write the model as an ONNX folder of float32 weights.

    Args:
        folder: Hugging Face folder with safetensors, tokenizer and contract.
        target: folder to write; must not exist.
        scratch: folder for the builder's temporary files.
        adapter: PEFT folder whose factors become part of the graph, beside the weights.

    Raises:
        Unsupported: the builder refuses the model.
    """
    output = io.StringIO()
    wanted = ["hf_token=false", *([f"adapter_path={adapter}"] if adapter else [])]
    try:
        with _quiet(output), plain_folder(folder) as plain:
            from onnxruntime_genai.models import builder

            options = builder.parse_extra_options(
                None, str(plain), str(target), "fp32", "cpu", str(scratch), wanted
            )
            builder.create_model(
                None, str(plain), str(target), "fp32", "cpu", str(scratch), **options
            )
    except Exception as error:  # the builder raises every kind, bare Exceptions among them
        raise_machine_fault(error, str(target))
        last = output.getvalue().strip().splitlines()[-1:]
        raise Unsupported(
            f"the onnxruntime-genai builder fails: {type(error).__name__}: {error}",
            where=str(folder),
            hint=" ".join(["its last output:", *last]) if last else "",
        ) from error
    model = onnx.load(target / _BUILT, load_external_data=False)
    _fix_cache_width(model, folder)
    move_graph(target, model, _BUILT, "fp32")
    finish_folder(folder, target, "fp32")


def rewrite_weights(
    source: Path,
    folder: Path,
    target: Path,
    settings: dict[str, Any],
    importance: Mapping[str, np.ndarray],
    quantize: Quantize = quantize_nbits,
) -> list[dict[str, str]]:
    """Write the float32 ONNX folder ``source`` again with float16 weights or blocks.

    Args:
        source: what :func:`build_graph` wrote.
        folder: the Hugging Face folder it was made from.
        target: folder to write; must not exist.
        settings: of the plan.
        importance: GGUF tensor name to column weights; may be empty.
        quantize: what makes the blocks' bytes.

    Returns:
        The weights that stayed float32, and why.
    """
    graph = find_graph(source)
    if settings["weights"] == "F16":
        model = onnx.load(graph)
        fallbacks = narrow_graph(model)
    else:
        model = onnx.load(graph, load_external_data=False)
        fallbacks = quantize_graph(model, settings, importance, quantize, graph.parent)
        onnx.load_external_data_for_model(model, str(graph.parent))  # what stays float32
    dtype = data_type(settings)
    graph = target / graph_name(dtype)
    graph.parent.mkdir(parents=True)
    onnx.save(
        model,
        graph,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=data_name(graph),
        size_threshold=1024,
    )
    for file in source.iterdir():
        if file.is_file():
            shutil.copyfile(file, target / file.name)
    finish_folder(folder, target, dtype)
    return fallbacks


def load_matrices(source: Path) -> dict[str, np.ndarray]:
    """Return the matrices of a float32 ONNX folder by node name, each [out, in]."""
    return read_matrices(onnx.load(find_graph(source)))


def measure_overhead(
    source: Path, folder: Path, target: Path, settings: dict[str, Any], rows: Mapping[str, int]
) -> tuple[int, int]:
    """Return the bytes of an ONNX folder besides the blocks of the nodes that have a type.

    The second number is how many of them are no tensor's: graph, tokenizer and configurations.

    The folder is written, with zeros for blocks: graph, tokenizer and configurations are its size
    too, as the report counts it. Nodes and file offsets are named by type, so other types than
    those of ``settings`` can take some bytes per matrix more or less.

    Args:
        source: what :func:`build_graph` wrote.
        folder: the Hugging Face folder it was made from.
        target: folder to write; it is removed again.
        settings: with ``types``.
        rows: node name to how many bytes its blocks have.
    """
    shutil.rmtree(target, ignore_errors=True)
    rewrite_weights(source, folder, target, settings, {}, _blank)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    header = size - tensor_bytes(target)
    shutil.rmtree(target)
    return size - sum(rows.values()), header


def tensor_bytes(folder: Path) -> int:
    """Return the bytes of an ONNX folder's external data, which hold every matrix."""
    data = [f for f in folder.rglob("*") if ".onnx" in f.name and f.name.endswith("data")]
    return sum(file.stat().st_size for file in data)


def _blank(matrix: np.ndarray, kind: str, _: np.ndarray | None, name: str) -> np.ndarray:
    return np.zeros((len(matrix), nbits_row_bytes(matrix.shape[1], kind)), np.uint8)


def _fix_cache_width(model: onnx.ModelProto, folder: Path) -> None:
    """Write the cache's last dimension as a number: transformers.js refuses the symbol."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for value in [*model.graph.input, *model.graph.output]:
        if value.name.startswith(("past_key_values.", "present.")):
            last = value.type.tensor_type.shape.dim[-1]
            if not last.HasField("dim_value"):
                last.dim_value = _head_size(config)


def _head_size(config: dict[str, Any]) -> int:
    width = config.get("hidden_size") or config["n_embd"]  # GPT-2's own names
    heads = config.get("num_attention_heads") or config["n_head"]
    return int(config.get("head_dim") or width // heads)


@contextlib.contextmanager
def _quiet(output: io.StringIO) -> Iterator[None]:
    """Keep the builder's prints, bars and log lines from the terminal."""
    root = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            yield
    finally:
        logging.disable(root)
