"""The float32 graph of onnxruntime-genai's builder without its weights, which are read one by one.

The builder is called in process (importing it takes longer than building). Its graph is made over
weights whose values it never asks for (:mod:`edgetune.models.deferred`); what would be written
takes them from the model folder.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import torch

from edgetune.errors import Unsupported, raise_machine_fault
from edgetune.models.checkpoint import plain_folder
from edgetune.models.deferred import open_deferred, read_values


@dataclass(frozen=True)
class Frame:
    """A model as an ONNX graph in float32.

    Attributes:
        folder: the Hugging Face folder it is made from.
        files: folder of what the builder writes beside a graph.
        model: the graph; its initializers have shapes and no values.
        read: returns an initializer's values by its name, read now.
    """

    folder: Path
    files: Path
    model: onnx.ModelProto
    read: Callable[[str], np.ndarray]

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Each initializer's shape."""
        return {each.name: tuple(each.dims) for each in self.model.graph.initializer}


def open_frame(folder: Path, scratch: Path, adapter: Path | None = None) -> Frame:
    """Build the graph of a model, in seconds; no weight is read.

    Args:
        folder: Hugging Face folder with safetensors, tokenizer and contract.
        scratch: folder for the builder's files, which the frame keeps.
        adapter: PEFT folder whose factors become part of the graph, beside the weights.

    Raises:
        Unsupported: the builder refuses the model.
    """
    files, output = scratch / "files", io.StringIO()
    shutil.rmtree(files, ignore_errors=True)
    wanted = ["hf_token=false", *([f"adapter_path={adapter}"] if adapter else [])]
    places = (str(files), "fp32", "cpu", str(scratch / "cache"))
    try:
        with _quiet(output), plain_folder(folder) as plain:
            from onnxruntime_genai.models import builder

            options = builder.parse_extra_options(None, str(plain), *places, wanted)
            with _without_weights(builder.Model) as built:
                builder.create_model(None, str(plain), *places, **options)
    except Exception as error:  # the builder raises every kind, bare Exceptions among them
        raise_machine_fault(error, str(scratch))
        last = output.getvalue().strip().splitlines()[-1:]
        raise Unsupported(
            f"the onnxruntime-genai builder fails: {type(error).__name__}: {error}",
            where=str(folder),
            hint=" ".join(["its last output:", *last]) if last else "",
        ) from error
    (graph,) = built
    values = {name: value.const_value for name, value in graph.graph.initializers.items()}
    for value in graph.graph.initializers.values():
        like = value.const_value
        value.const_value = onnx_ir.ExternalTensor(
            "", None, None, like.dtype, shape=like.shape, name=like.name
        )
    model = onnx_ir.to_proto(graph)
    _fix_cache_width(model, folder)
    return Frame(folder, files, model, lambda name: _read(values[name]))


@contextlib.contextmanager
def _without_weights(kind: Any) -> Iterator[list[Any]]:
    """Have the builder read no weights and write no graph; yield a list of what it built.

    Args:
        kind: the class that its models derive from.
    """
    base: Any = sys.modules[kind.__module__]
    built: list[Any] = []
    load, save = base.AutoModelForCausalLM, kind.save_model

    class _Deferring:
        @staticmethod
        def from_pretrained(name: str, **settings: Any) -> Any:
            return open_deferred(Path(name)) or load.from_pretrained(name, **settings)

    def keep(made: Any, _: str) -> None:
        made.model.graph.sort()
        made.stamp_build_metadata(made.model)
        built.append(made.model)

    base.AutoModelForCausalLM, kind.save_model = _Deferring, keep
    try:
        yield built
    finally:
        base.AutoModelForCausalLM, kind.save_model = load, save


def _read(tensor: Any) -> np.ndarray:
    """Return the values of a tensor of the builder's graph."""
    if isinstance(tensor, onnx_ir.LazyTensor):
        tensor = tensor.raw()
    if isinstance(tensor.raw, torch.Tensor):
        return read_values(tensor.raw).detach().numpy()
    return np.asarray(tensor.numpy())


def _fix_cache_width(model: onnx.ModelProto, folder: Path) -> None:
    """Write the cache's last dimension as a number: transformers.js refuses the symbol."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for value in [*model.graph.input, *model.graph.output]:
        if value.name.startswith(("past_key_values.", "present.")):
            last = value.type.tensor_type.shape.dim[-1]
            if not last.HasField("dim_value"):
                last.dim_value = head_size(config)


def head_size(config: dict[str, Any]) -> int:
    """Return the width of an attention head."""
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
