"""Models larger than the memory: each layer's weights are read from disk as it computes.

accelerate's hooks load the weights of a module before its forward and drop them after it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import cpu_offload, init_empty_weights
from accelerate.hooks import remove_hook_from_module
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from edgetune.models.checkpoint import check_model_folder
from edgetune.models.checkpoint_tensors import CheckpointTensors
from edgetune.models.hardware import trim_malloc
from edgetune.models.load import load_model, put_adapter_on
from edgetune.models.lora import Adapter
from edgetune.models.merge import MergedTensors
from edgetune.models.nf4 import NF4Tensors
from edgetune.models.ref import ModelRef
from edgetune.models.skeleton import read_skeleton

#: Weights that take more than this in float32 are not held in memory to be asked a few times.
#: For 500 M parameters and 256 rows `quantize` took 184 s of CPU streamed, thousands of tokens to a
#: pass, and 416 held in memory, a row at a time.
IN_MEMORY_BYTES = 1 << 30
HEAD_ROWS = 8192  # of a head in float32 at a time


def load_or_offload(folder: Path) -> PreTrainedModel:
    """Return the model in float32 on the CPU: in memory if it is small, else offloaded to disk."""
    return open_offloaded(folder) or load_model(ModelRef(folder))


def open_offloaded(
    folder: Path, weights: CheckpointTensors | MergedTensors | None = None
) -> PreTrainedModel | None:
    """Return the model in float32 on the CPU, in eval mode, its weights left on disk.

    Nothing where it is small enough to be held, or where its tensors on disk are not its
    parameters one by one (experts stored apart that the model stacks).

    Args:
        folder: with the configuration.
        weights: made of those in the folder as they are asked for; none: as they are.
    """
    check_model_folder(folder)
    if weights is None:
        weights = CheckpointTensors(folder)
    if not is_large(folder):
        return None
    trim_malloc()
    found = build_empty(folder, weights)
    if found is None:
        return None
    model, named = found
    model.streamed_weights = source = StreamedWeights(weights, named)
    cpu_offload(model, torch.device("cpu"), state_dict=source)
    table = model.get_input_embeddings()
    if type(table) is torch.nn.Embedding:  # a kind of its own may scale, and reads all its rows
        remove_hook_from_module(table)
        table.forward = _look_up(source, _name_of(model, table))  # type: ignore[method-assign]
    return model  # type: ignore[no-any-return]


def build_empty(
    folder: Path, weights: CheckpointTensors | MergedTensors
) -> tuple[Any, dict[str, str]] | None:
    """Return the float32 model of a folder on the meta device, in eval mode, its buffers filled.

    With it the name of each of its tensors on disk. Nothing where one is not there as it is.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with init_empty_weights(include_buffers=False):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.eval()
    named = _find_weights(model, weights)
    if named is None:
        return None
    for name, buffer in model.named_buffers():
        if name in named:
            buffer.data = weights[named[name]].to(buffer.dtype)
    return model, named


def open_trained_offloaded(ref: ModelRef) -> PreTrainedModel | None:
    """Return base + adapter in float32 on the CPU, the base's weights left on disk.

    NF4 weights have the values that the training saw; the adapter is in memory and computed beside
    its layers, as PEFT does. Nothing where :func:`open_offloaded` returns nothing, or where loading
    the adapter needs the base's weights or replaces some (:attr:`.lora.Adapter.plain`).
    """
    if ref.gguf is not None or not is_large(ref.base):
        return None
    if ref.adapter is not None and not Adapter(ref.adapter, ref.base).plain:
        return None
    weights = CheckpointTensors(ref.base)
    if ref.nf4:
        skeleton = read_skeleton(ref.base)
        dtype = getattr(torch, ref.nf4_dtype)
        weights = NF4Tensors(ref.base, skeleton.nf4, skeleton.transposed, dtype)
    model = open_offloaded(ref.base, weights)
    if model is None or ref.adapter is None:
        return model
    trained: PreTrainedModel = put_adapter_on(model, ref, offloaded=True).get_base_model()
    return trained.eval()  # type: ignore[no-any-return]


def open_merge_offloaded(
    base: Path, adapters: Sequence[Path], nf4_dtype: str | None
) -> PreTrainedModel | None:
    """Return the merge of adapters in float32, each tensor made as it is asked for.

    Nothing where :func:`open_offloaded` returns nothing, or where the merge is of another shape
    than its base.
    """
    if not is_large(base):
        return None
    weights = MergedTensors(base, adapters, nf4_dtype)
    return None if weights.reshaped else open_offloaded(base, weights)


def is_large(folder: Path) -> bool:
    """Whether a model's weights are left on disk rather than held in float32."""
    shapes = CheckpointTensors(folder).shapes.values()
    return 4 * sum(map(math.prod, shapes)) > IN_MEMORY_BYTES


def keep_head_in_memory(model: Any) -> None:
    """Keep an offloaded model's head in memory, in the dtype it is stored in.

    Its product is float32, some rows at a time: the 151,646 of a Qwen are 621 MB in float32.
    """
    head = model.get_output_embeddings()
    hook = getattr(head, "_hf_hook", None)
    if type(head) is not torch.nn.Linear or hook is None:
        return  # read again for each row
    source: StreamedWeights = hook.weights_map.dataset
    name = _name_of(model, head)
    weight, bias = source.read_stored_dtype(name), None
    if head.bias is not None:
        bias = source[name.removesuffix("weight") + "bias"]

    def forward(hidden_BTD: torch.Tensor) -> torch.Tensor:
        parts = [hidden_BTD @ rows.float().T for rows in weight.split(HEAD_ROWS)]
        logits_BTV = torch.cat(parts, -1)
        return logits_BTV if bias is None else logits_BTV.add_(bias)

    remove_hook_from_module(head)
    head.forward = forward  # type: ignore[method-assign,assignment]


def _look_up(source: StreamedWeights, name: str) -> Any:
    """Return what an embedding computes, reading the rows that are asked for."""

    def forward(ids_BT: torch.Tensor) -> torch.Tensor:
        rows, places_BT = ids_BT.unique(return_inverse=True)
        return source.read_rows(name, rows)[places_BT]

    return forward


def _name_of(model: Any, module: Any) -> str:
    return next(f"{name}.weight" for name, one in model.named_modules() if one is module)


class StreamedWeights(dict[str, Any]):
    """The model's names to the values of those on disk: a tied head is its embedding's tensor.

    Args:
        weights: on disk.
        named: the model's names to those on disk.
    """

    def __init__(self, weights: CheckpointTensors | MergedTensors, named: dict[str, str]) -> None:
        super().__init__(named)
        self._weights = weights
        # By name on disk: other values, and their name there. The last that has one counts.
        self._changes: list[tuple[dict[str, str], Mapping[str, torch.Tensor]]] = []

    def __getitem__(self, name: str) -> torch.Tensor:
        stored = self.stored_name(name)
        for names, values in reversed(self._changes):
            if stored in names:
                return values[names[stored]]
        return self._weights[stored]

    def stored_name(self, name: str) -> str:
        """Return a parameter's name on disk."""
        return super().__getitem__(name)  # type: ignore[no-any-return]

    def read_unchanged(self, name: str) -> torch.Tensor:
        """Return a parameter in float32, whatever is put in its place."""
        return self._weights[self.stored_name(name)]

    def read_rows(self, name: str, rows: torch.Tensor) -> torch.Tensor:
        """Return some rows of a parameter in float32."""
        stored = self.stored_name(name)
        for names, values in reversed(self._changes):
            if stored in names:
                some = getattr(values, "read_rows", None)
                return some(names[stored], rows) if some else values[names[stored]][rows]
        return self._weights.read_rows(stored, rows)

    def read_stored_dtype(self, name: str) -> torch.Tensor:
        """Return one in the dtype it is stored in."""
        return self._weights.read_stored_dtype(self.stored_name(name))

    @contextmanager
    def changed(self, values: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """Give other values for parameters of these names while the context is open."""
        self._changes.append(({self.stored_name(name): name for name in values}, values))
        try:
            yield
        finally:
            self._changes.pop()


def _find_weights(model: Any, weights: CheckpointTensors | MergedTensors) -> dict[str, str] | None:
    """Return each of the model's tensors' name on disk, or nothing if one is not there."""
    tied, named = dict(model.all_tied_weights_keys), {}
    for name, value in model.state_dict().items():
        stored = name if name in weights.shapes else tied.get(name, name)
        if weights.shapes.get(stored) != tuple(value.shape):
            return None
        named[name] = stored
    return named
