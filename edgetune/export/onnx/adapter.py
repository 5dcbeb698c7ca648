"""A LoRA adapter alone for ONNX Runtime: a graph of the base that takes it, and the adapter's file.

ONNX Runtime adds an adapter by putting its tensors over a graph's inputs of the same names, which
have defaults otherwise (onnxruntime.AdapterFormat, RunOptions.add_active_adapter). The builder
keeps the factors as constants; here they become such inputs, zero by default: the base itself.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx.helper import make_tensor_value_info

from edgetune.errors import Unsupported
from edgetune.export.gguf.adapter import refuse_more_than_factors
from edgetune.export.onnx.build import check_onnx_support, write_weights
from edgetune.export.onnx.frame import Frame, open_frame
from edgetune.models.lineage import check_lineage, lineage_of
from edgetune.models.lora import Adapter

FILE = "adapter.onnx_adapter"
_VERSION = 1  # of the model and the adapter: nothing of ours reads them


def write_onnx_adapter(base: Path, folder: Path, target: Path, scratch: Path) -> int:
    """Write the folder ``target``: a float32 graph of ``base``, and the adapter as :data:`FILE`.

    Args:
        base: Hugging Face folder that the adapter was trained over.
        folder: PEFT folder.
        target: folder to write; must not exist.
        scratch: folder for the builder's temporary files.

    Returns:
        How many tensors the adapter tunes.

    Raises:
        InputError: an adapter of another base.
        Unsupported: one of more than low-rank factors, or a model the builder cannot do.
    """
    check_lineage(folder, lineage_of(base))
    adapter = Adapter(folder, base)
    refuse_more_than_factors(adapter)
    ends = sorted({adapter.skeleton.embedding, adapter.skeleton.head} & adapter.modules)
    if ends:
        raise Unsupported(
            f"onnxruntime-genai's builder makes no graph with an adapter on '{ends[0]}'",
            where=str(folder),
            hint="ship the merged model, or leave the layer out of target_modules",
        )
    faults = check_onnx_support(base)
    if faults:
        raise Unsupported("; ".join(faults), where=str(base))
    frame = open_frame(base, scratch, folder)
    factors = {name: frame.read(name).copy() for name in frame.shapes if _is_factor(name)}
    if not factors:
        raise Unsupported("the builder left the adapter out", where=str(folder))
    write_weights(_open_factors(frame), target, {"weights": "F32"}, {})
    adapter_file = onnxruntime.AdapterFormat()
    adapter_file.set_adapter_version(_VERSION)
    adapter_file.set_model_version(_VERSION)
    wrap = onnxruntime.OrtValue.ortvalue_from_numpy
    adapter_file.set_parameters({name: wrap(value) for name, value in factors.items()})
    adapter_file.export_adapter(str(target / FILE))
    return len(adapter.modules)


def _is_factor(name: str) -> bool:
    return ".lora_A." in name or ".lora_B." in name


def _open_factors(frame: Frame) -> Frame:
    """Return a graph whose LoRA factors are inputs that are zero by default.

    The builder has multiplied B by the adapter's scale.
    """
    model = onnx.ModelProto()
    model.CopyFrom(frame.model)
    for tensor in model.graph.initializer:
        if _is_factor(tensor.name):
            given = make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            model.graph.input.append(given)

    def read(name: str) -> np.ndarray:
        return np.zeros(frame.shapes[name], np.float32) if _is_factor(name) else frame.read(name)

    return replace(frame, model=model, read=read)
