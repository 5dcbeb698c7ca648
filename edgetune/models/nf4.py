"""NF4 weights (QLoRA, Dettmers et al. 2023, arXiv 2305.14314): the door to bitsandbytes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from edgetune.models.checkpoint_tensors import CheckpointTensors
from edgetune.models.hardware import read_ram

BLOCK = 64  # weights, along a row, that share a scale


def disable_avx512_repacking(model: Any) -> None:
    """Keep bitsandbytes from repacking weights on CPU.

    At the first forward in eval mode it repacks a weight for AVX512-BF16, which asserts on rows
    that do not divide by 32 and leaves weights that can no longer be dequantized.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def fits_unpacked(model: Any) -> bool:
    """Whether the weights would take at most a quarter of the memory as float32."""
    count = sum(
        module.in_features * module.out_features
        for module in model.modules()
        if hasattr(module, "in_features")
    )
    return bool(16 * count <= read_ram())


def unpack_nf4(model: Any) -> None:
    """Replace 4-bit layers by plain ones with the dequantized values.

    On a CPU bitsandbytes dequantizes a weight whenever it is used, forward and backward. The
    results are the same bit for bit; only the time and the memory differ.
    """
    _put_plain_layers(model, uneven_only=False)
    # What marks a model as quantized would now mislead those who save or wrap it.
    model.is_loaded_in_4bit = model.is_quantized = False
    model.hf_quantizer = None
    del model.config.quantization_config


def unpack_uneven_layers(model: Any) -> None:
    """Unpack the layers whose rows end inside a block; see :func:`unpack`."""
    _put_plain_layers(model, uneven_only=True)


def _put_plain_layers(model: Any, uneven_only: bool) -> None:
    from bitsandbytes.nn import Linear4bit

    packed = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, Linear4bit) and not (uneven_only and child.in_features % BLOCK == 0)
    ]
    for parent, name, child in packed:
        values = unpack(child.weight.data, child.weight.quant_state)  # type: ignore[attr-defined]
        plain = torch.nn.Linear(1, 1, bias=False)
        plain.in_features, plain.out_features = child.in_features, child.out_features
        plain.weight = torch.nn.Parameter(values.to(child.compute_dtype), requires_grad=False)
        plain.bias = child.bias
        setattr(parent, name, plain)


def is_packed(module: Any) -> bool:
    """Whether a layer's weights are in 4 bits."""
    return getattr(getattr(module, "weight", None), "quant_state", None) is not None


def unpack(packed: torch.Tensor, state: Any) -> torch.Tensor:
    """Return the values of NF4 quants, in the dtype that they were packed from.

    They are asked for as one long row: where rows end inside a block (96 or 288 columns),
    bitsandbytes 0.50 on a CPU with AVX-512 takes other blocks' scales, and 25 % of the weights'
    norm is lost where NF4 loses 9 %.
    """
    from bitsandbytes.functional import dequantize_4bit

    row = copy.copy(state)
    row.shape = torch.Size((state.shape.numel(),))
    return dequantize_4bit(packed, row).reshape(state.shape)


def pack_nf4(weight: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """Return the quants of ``weight`` in NF4, two per byte, and the scales, doubly quantized."""
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(weight.contiguous(), quant_type="nf4", compress_statistics=True)
    return packed, state


def through_nf4(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return ``weight`` as QLoRA training saw it: NF4, double quantization, dequantized (float32).

    ``dtype`` is the compute dtype of the training, in which the weights were loaded and are
    dequantized.
    """
    return unpack(*pack_nf4(weight.to(dtype))).float()


class NF4Tensors(CheckpointTensors):
    """Tensors of a folder, those of the layers that NF4 holds as a QLoRA training saw them.

    Args:
        folder: of the base.
        layers: whose weights are rounded.
        transposed: those of which the weight is [in, out]; it is packed [out, in].
        dtype: compute dtype of the training.
    """

    def __init__(
        self,
        folder: Path,
        layers: frozenset[str],
        transposed: frozenset[str],
        dtype: torch.dtype,
    ) -> None:
        super().__init__(folder)
        self._layers, self._transposed, self._dtype = layers, transposed, dtype

    def __getitem__(self, name: str) -> torch.Tensor:
        module, _, kind = name.rpartition(".")
        if kind != "weight" or module not in self._layers:
            return super().__getitem__(name)
        weight = self.read_stored_dtype(name)
        if module not in self._transposed:
            return through_nf4(weight, self._dtype)
        return through_nf4(weight.T, self._dtype).T


def round_to_nf4(model: Any, dtype: torch.dtype) -> None:
    """Give the layers that NF4 would hold the values it gave them in a training in ``dtype``."""
    from transformers.pytorch_utils import Conv1D
    from transformers.quantizers.base import get_keys_to_not_convert

    kept = set(get_keys_to_not_convert(model))
    for name, module in model.named_modules():
        if name in kept or not isinstance(module, torch.nn.Linear | Conv1D):
            continue
        turned = isinstance(module, Conv1D)  # GPT-2's is [in, out], and packed [out, in]
        weight = module.weight.data.T if turned else module.weight.data
        values = through_nf4(weight, dtype).to(weight.dtype)
        module.weight.data = values.T.contiguous() if turned else values
