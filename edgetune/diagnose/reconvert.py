"""Convert the reference into the candidate's container: what a right file would hold."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgetune.compare.model_spec import ModelSpec
from edgetune.diagnose.tensors import GgufTensors, OnnxTensors
from edgetune.models.merge import write_merged
from edgetune.models.ref import ModelRef
from edgetune.runtimes.genai_folder import find_graph
from edgetune.runtimes.onnx_header import open_onnx


def write_reference_folders(reference: ModelSpec, scratch: Path) -> tuple[list[Path], list[Path]]:
    """Return folders without and with the adapter: over the original base, and over NF4 if so."""
    ref = reference.target
    assert isinstance(ref, ModelRef)
    if ref.adapter is None and not ref.nf4 and reference.contract in (None, ref.base):
        return [ref.base], [ref.base]
    base: list[Path] = []
    merged: list[Path] = []
    for name, dtype in (("original", None), ("dequantized", ref.nf4_dtype)):
        if dtype and not ref.nf4:
            continue
        for adapter, kept in ((None, base), (ref.adapter, merged)):
            folder = scratch / f"{name}-{'merged' if adapter else 'base'}"
            write_merged(ref.base, [adapter] if adapter else [], folder, "float32", dtype)
            kept.append(folder)
            _copy_contract(reference, folder)
    return base, merged


def _copy_contract(reference: ModelSpec, folder: Path) -> None:
    if reference.contract is not None and reference.contract != reference.folder:
        for file in reference.contract.iterdir():
            if file.is_file():
                shutil.copy(file, folder / file.name)


def convert_to_gguf(folder: Path, scratch: Path) -> tuple[Path, GgufTensors]:
    from edgetune.export.gguf.f32 import convert_gguf
    from edgetune.export.gguf.header import header_of

    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / f"{_tag(folder)}.gguf"
    if not path.exists():
        convert_gguf(folder, path, header_of(folder, "reference"))
    return path, GgufTensors(path)


def convert_to_onnx(folder: Path, scratch: Path) -> tuple[Path, OnnxTensors]:
    from edgetune.export.onnx.build import build_graph

    scratch.mkdir(parents=True, exist_ok=True)
    target = scratch / f"{_tag(folder)}-onnx"
    if not target.exists():
        build_graph(folder, target, scratch / "builder")
    return target, open_tensors(target)


def _tag(folder: Path) -> str:
    import hashlib

    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]


def open_tensors(folder: Path) -> OnnxTensors:
    path = find_graph(folder)
    open_onnx(path)
    return OnnxTensors(path.parent, path.name)
