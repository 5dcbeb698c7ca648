"""The importance matrix: how much each input channel of each weight matters on the user's own data.

A rounding error in column j of a weight changes its output by error x input_j, so the squared error
is weighted by the mean of input_j squared over the calibration tokens, as llama.cpp's ``imatrix``
tool does. The file is in its GGUF format (tools/imatrix/README.md, ``general.type: imatrix``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from gguf import (
    MODEL_ARCH,
    MODEL_ARCH_NAMES,
    GGUFReader,
    GGUFWriter,
    TensorNameMap,
    get_tensor_name_map,
)

from edgetune.artifact import hash_file
from edgetune.errors import InputError
from edgetune.quantize.calibration.activations import ActivationStats

SUMS, COUNTS = ".in_sum2", ".counts"
_STACKED = {"gate_up_proj": ("gate_proj", "up_proj")}  # two tensors of a file, one of a model


def name_for_gguf(
    stats: ActivationStats,
    architecture: str,
    blocks: int,
    tied: bool,
    tensors: Collection[str] | None = None,
) -> ActivationStats:
    """Rename weights to the GGUF tensors they became; those without one are left out.

    Args:
        stats: by the model's names.
        architecture: llama.cpp's name, such as ``llama``.
        blocks: how many layers the model has.
        tied: embedding and head are one tensor; the head's inputs are its statistics then.
        tensors: those of the file, where they are known: others are left out too.
    """
    names = name_map(architecture, blocks)
    renamed = ActivationStats(sequences=stats.sequences, longest=stats.longest)
    for module, sums in stats.sums.items():
        parent, _, last = module.rpartition(".")
        for part in _STACKED.get(last, (last,)):
            name = names.get_name(f"{parent}.{part}" if parent else part)
            tensor = "token_embd.weight" if tied and name == "output" else f"{name}.weight"
            if name is not None and (tensors is None or tensor in tensors):
                renamed.sums[tensor], renamed.counts[tensor] = sums, stats.counts[module]
    return renamed


def write_imatrix(stats: ActivationStats, path: Path, dataset: str) -> None:
    """Write the sums in llama.cpp's format; ``dataset`` names what they were measured on."""
    writer = GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", [dataset])
    writer.add_uint32("imatrix.chunk_count", stats.sequences)
    writer.add_uint32("imatrix.chunk_size", stats.longest)
    for name in sorted(stats.sums):
        sums = stats.sums[name].reshape(len(stats.counts[name]), -1)
        writer.add_tensor(name + SUMS, sums.astype(np.float32))
        writer.add_tensor(name + COUNTS, stats.counts[name].astype(np.float32)[:, None])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_imatrix(path: Path) -> dict[str, np.ndarray]:
    """Return tensor name to the mean squared input of each column, float32 ``[columns]``.

    Stacked experts have ``[experts, columns]``, 1 for an expert that no token reached.

    Raises:
        InputError: not an importance matrix.
    """
    tensors = {tensor.name: tensor.data for tensor in _open(path).tensors}
    names = [name.removesuffix(SUMS) for name in tensors if name.endswith(SUMS)]
    if not names or any(name + COUNTS not in tensors for name in names):
        raise InputError("not an importance matrix: no sums and counts in it", where=str(path))
    found = {}
    for name in names:
        sums, counts = tensors[name + SUMS], tensors[name + COUNTS]
        means = np.where(counts > 0, sums / np.maximum(counts, 1), 1).astype(np.float32)
        found[name] = np.ascontiguousarray(means if len(counts) > 1 else means.reshape(-1))
    return found


def describe_imatrix(path: Path) -> dict[str, int | str]:
    """Return what a quantized file says of its importance matrix, as metadata.

    The keys of llama-quantize (llama.cpp, tools/quantize/quantize.cpp), and its hash.
    """
    reader = _open(path)
    datasets = reader.fields["imatrix.datasets"].contents()
    return {
        "quantize.imatrix.file": path.name,
        "quantize.imatrix.dataset": datasets[0],
        "quantize.imatrix.entries_count": len(reader.tensors) // 2,
        "quantize.imatrix.chunks_count": int(reader.fields["imatrix.chunk_count"].contents()),
        "edgetune.imatrix.sha256": hash_file(path),
    }


def check_imatrix(
    importance: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], path: Path
) -> None:
    """Refuse the importance matrix of another model.

    Args:
        importance: tensor name to ``[columns]``, or ``[experts, columns]``.
        shapes: of the model's tensors, outermost dimension first.
        path: the matrix.

    Raises:
        InputError: it has a tensor that the model lacks, or of other columns.
    """
    for name, means in importance.items():
        if name not in shapes:
            raise InputError(
                f"this importance matrix weighs '{name}', which the model does not have",
                where=str(path),
                hint="make one of this model: edgetune quantize --model …",
            )
        *experts, _, columns = (1, *shapes[name]) if len(shapes[name]) < 2 else shapes[name]
        if means.shape not in ((columns,), (*experts, columns)):
            raise InputError(
                f"this importance matrix has {' x '.join(map(str, means.shape))} columns for "
                f"'{name}', the model {' x '.join(map(str, (*experts, columns)))}",
                where=str(path),
                hint="make one of this model: edgetune quantize --model …",
            )


def _open(path: Path) -> GGUFReader:
    try:
        return GGUFReader(path)
    except (OSError, ValueError) as error:
        raise InputError(f"not an importance matrix: {error}", where=str(path)) from error


def name_map(architecture: str, blocks: int) -> TensorNameMap:
    """Return llama.cpp's table from module names to tensor names."""
    numbers = {name: number for number, name in MODEL_ARCH_NAMES.items()}
    return get_tensor_name_map(numbers.get(architecture, MODEL_ARCH.LLAMA), blocks)
