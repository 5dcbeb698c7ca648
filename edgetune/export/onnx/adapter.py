"""A LoRA adapter alone for ONNX Runtime: a graph of the base that takes it, and the adapter's file.

ONNX Runtime adds an adapter by putting its tensors over a graph's inputs of the same names, which
have defaults otherwise (onnxruntime.AdapterFormat, RunOptions.add_active_adapter). The builder
keeps the factors as constants; here they become such inputs, zero by default: the base itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx.external_data_helper import load_external_data_for_tensor
from onnx.helper import make_tensor_value_info

from edgetune.errors import Unsupported
from edgetune.export.gguf.adapter import refuse_more_than_factors
from edgetune.export.onnx.build import build_graph, check_onnx_support
from edgetune.export.onnx.folder import write_graph
from edgetune.models.lineage import check_lineage, lineage_of
from edgetune.models.lora import Adapter
from edgetune.runtimes.genai_folder import find_graph

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
    faults = check_onnx_support(base)
    if faults:
        raise Unsupported("; ".join(faults), where=str(base))
    build_graph(base, target, scratch, folder)
    graph = find_graph(target)
    model = onnx.load(graph, load_external_data=False)
    factors = _open_factors(model, graph.parent)
    if not factors:
        raise Unsupported("the builder left the adapter out", where=str(folder))
    write_graph(model, graph)
    adapter_file = onnxruntime.AdapterFormat()
    adapter_file.set_adapter_version(_VERSION)
    adapter_file.set_model_version(_VERSION)
    wrap = onnxruntime.OrtValue.ortvalue_from_numpy
    adapter_file.set_parameters({name: wrap(value) for name, value in factors.items()})
    adapter_file.export_adapter(str(target / FILE))
    return len(adapter.modules)


def _open_factors(model: onnx.ModelProto, folder: Path) -> dict[str, np.ndarray]:
    """Make the graph's LoRA factors inputs that are zero by default; return what they were.

    The builder has multiplied B by the adapter's scale.
    """
    factors = {}
    for tensor in model.graph.initializer:
        if ".lora_A." not in tensor.name and ".lora_B." not in tensor.name:
            continue
        load_external_data_for_tensor(tensor, str(folder))
        value = onnx.numpy_helper.to_array(tensor)
        factors[tensor.name] = value.copy()
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros_like(value), tensor.name))
        given = make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        model.graph.input.append(given)
    return factors
