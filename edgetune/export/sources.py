"""The model as export would write it in float32: what a search takes its tensors from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgetune.disk import rename_whole
from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf, open_model
from edgetune.export.gguf.write import measure_header
from edgetune.export.onnx.blocks import EMBEDDING, HEAD, find_importance, read_matrices
from edgetune.export.onnx.build import measure_overhead
from edgetune.export.onnx.frame import Frame
from edgetune.models.checkpoint import Checkpoint
from edgetune.models.hardware import require_room
from edgetune.quantize.formats.ggml import PLAIN
from edgetune.quantize.plan import settings_of
from edgetune.quantize.search.onnx import OnnxSource
from edgetune.runtimes.gguf_header import GgufFile, open_gguf


def convert_to_gguf(model: Path, scratch: Path, header: GgufHeader, copies: int) -> GgufFile:
    """Return the model as an F32 GGUF file in ``scratch``.

    Args:
        model: merged folder.
        scratch: a file that a killed run finished is found there again.
        header: export's own.
        copies: of the model that have to fit on the disk; with 0 no tensor is written, and the
            file is the header's alone.
    """
    if not copies:
        return open_model(model, scratch / "frame.gguf", header)
    source = scratch / "F32.gguf"
    size = copies * Checkpoint(model).bytes
    require_room(scratch.parent, size, "the model in float32 and its choices")
    if not source.exists():
        part = source.with_suffix(".part")
        convert_gguf(model, part, header)
        rename_whole(part, source)
    return open_gguf(source)


def count_header(
    source: GgufFile, scratch: Path, imatrix_keys: Mapping[str, int | str], scheme: str,
    types: Mapping[str, str],
) -> int:  # fmt: skip
    """Return the bytes before the first tensor of the GGUF file that export will write.

    Args:
        source: the model as an F32 file, with export's header.
        scratch: for a file of that header.
        imatrix_keys: what the header says of the importance matrix, if the file's types use it.
        scheme: of the file.
        types: of its tensors.
    """
    has_imatrix = any(kind not in PLAIN for kind in types.values())
    return measure_header(source, scratch / "header", scheme, imatrix_keys if has_imatrix else {})


def describe_onnx(frame: Frame, scratch: Path, importance: Mapping[str, np.ndarray]) -> OnnxSource:
    """Return what a search reads of an ONNX graph.

    Args:
        frame: the graph of the model.
        scratch: for folders whose bytes around the blocks are counted.
        importance: by GGUF tensor.
    """

    def overhead(types: Mapping[str, str], rows: Mapping[str, int]) -> tuple[int, int]:
        return measure_overhead(frame, scratch / "frame", settings_of(types), rows)

    return OnnxSource(
        read_matrices(frame),
        overhead,
        lambda name: find_importance(name, importance),
        (HEAD, EMBEDDING),
    )
