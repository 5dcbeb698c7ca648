"""Write the files of a plan. One that an interrupted run finished is kept as it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgetune.artifact import hash_file, hash_source
from edgetune.compare.model_spec import LOSSLESS_KL
from edgetune.disk import rename_whole, write_atomic
from edgetune.errors import InputError, Unsupported
from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf, open_model
from edgetune.export.gguf.support import check_gguf_support
from edgetune.export.gguf.write import Quantization, write_gguf
from edgetune.export.onnx.blocks import quantize_the_rest
from edgetune.export.onnx.build import check_onnx_support, tensor_bytes, write_weights
from edgetune.export.onnx.frame import open_frame
from edgetune.export.room import count_gguf_bytes
from edgetune.log import Log
from edgetune.models.hardware import require_room, trim_malloc
from edgetune.quantize.calibration.imatrix import check_imatrix, describe_imatrix, read_imatrix
from edgetune.quantize.formats.ggml import PLAIN
from edgetune.quantize.plan import IMATRIX, NAME, Plan, check_types, read_quants
from edgetune.recipe import QuantizeSection
from edgetune.runtimes.gguf_header import open_gguf

SCRATCH = "scratch"


@dataclass
class Written:
    """What was written and what was refused.

    Attributes:
        files: ``{"name", "format", "scheme", "path", "bytes", "tensor_bytes", "sha256", "lossless",
            "fallbacks"}``.
        refused: ``{"format", "scheme", "why"}``.
    """

    files: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)

    def refuse(self, kind: str, schemes: Iterable[str], error: Unsupported) -> Written:
        """Note why files cannot be, and return itself: the run goes on with the rest."""
        self.refused += [{"format": kind, "scheme": each, "why": error.what} for each in schemes]
        return self


def find_refusals(model: Path, wanted: QuantizeSection | Plan) -> list[dict[str, str]]:
    """Return ``{"format", "scheme", "why"}`` for every file that is asked for and cannot be.

    Reads configuration and tokenizer only, so it can be asked of a base before it is tuned.
    """
    checks = (
        ("gguf", wanted.gguf, check_gguf_support),
        ("onnx", wanted.onnx, check_onnx_support),
    )
    return [
        {"format": kind, "scheme": scheme, "why": "; ".join(faults)}
        for kind, schemes, check in checks
        if schemes and (faults := check(model))
        for scheme in schemes
    ]


def write_ggufs(
    model: Path, header: GgufHeader, plan: Plan, planned: Path, out: Path, log: Log
) -> Written:
    """Write ``gguf/<name>-<scheme>.gguf`` below ``out``, each tensor read, converted and written.

    Each file reads the model again: a second for 500 M parameters, against the minute of choosing
    their types' blocks, and an interrupted run keeps the files that it finished. Tensors that were
    quantized by a method are read from ``planned``, the folder of the plan.

    Raises:
        InputError: the plan or its importance matrix is of another model.
    """
    written = Written()
    frame = out / SCRATCH / "frame.gguf"
    frame.parent.mkdir(parents=True, exist_ok=True)
    try:
        source = open_model(model, frame, header)
    except Unsupported as error:
        return written.refuse("gguf", plan.gguf, error)
    imatrix, importance = planned / IMATRIX, _read_importance(planned, plan)
    shapes = {name: tensor.shape for name, tensor in source.tensors.items()}
    check_types(plan.gguf, shapes, planned / NAME)
    check_imatrix(importance, shapes, imatrix)
    missing = [
        types
        for scheme, types in plan.gguf.items()
        if not (out / "gguf" / f"{header.name}-{scheme}.gguf").exists()
    ]
    room = sum(count_gguf_bytes(types, shapes) for types in missing)
    require_room(out, room + frame.stat().st_blocks * 512 * len(missing), "the GGUF files")
    imatrix_keys = describe_imatrix(imatrix) if importance else {}
    trim_malloc()  # the vocabulary, read several times over
    with log.progress("GGUF", len(plan.gguf)) as bar:
        for scheme, types in plan.gguf.items():
            path = out / "gguf" / f"{header.name}-{scheme}.gguf"

            def write(part: Path, scheme: str = scheme, types: Any = types) -> list[dict[str, str]]:
                if scheme == "F32":
                    convert_gguf(model, part, header)
                    return []
                ready = read_quants(planned, f"{scheme}.gguf")
                weighed = any(types[name] not in PLAIN for name in importance)
                keys = imatrix_keys if weighed else {}
                write_gguf(source, part, Quantization(scheme, types, importance, ready, keys))
                return []

            _add(written, path, ("gguf", scheme), out, write)
            bar.update(1, now=scheme)
    for file in written.files:
        file["fallbacks"] = [f for f in plan.fallbacks if f["scheme"] == file["scheme"]]
    return written


def write_onnx(model: Path, plan: Plan, planned: Path, out: Path, log: Log) -> Written:
    """Write ``onnx/<precision>/`` below ``out``, each weight read, converted and written.

    Nodes that were quantized by a method are read from ``planned``, the folder of the plan.
    """
    written, importance = Written(), _read_importance(planned, plan)
    try:
        frame = open_frame(model, out / SCRATCH / "builder")
    except Unsupported as error:
        return written.refuse("onnx", plan.onnx, error)
    with log.progress("ONNX", len(plan.onnx)) as bar:
        for precision, settings in plan.onnx.items():
            path = out / "onnx" / precision

            def write(
                part: Path, precision: str = precision, settings: Any = settings
            ) -> list[dict[str, str]]:
                quantize = quantize_the_rest(read_quants(planned, f"{precision}.onnx"))
                return write_weights(frame, part, settings, importance, quantize)

            _add(written, path, ("onnx", precision), out, write)
            bar.update(1, now=precision)
    return written


def _read_importance(planned: Path, plan: Plan) -> dict[str, np.ndarray]:
    path = planned / IMATRIX
    if plan.imatrix_sha256 is None and not path.is_file():
        return {}
    if not path.is_file() or hash_file(path) != plan.imatrix_sha256:
        raise InputError(
            "not the importance matrix that this plan was made with",
            where=str(path),
            hint="quantize again, or take the file that belongs to plan.json",
        )
    return read_imatrix(path)


def _add(
    written: Written,
    path: Path,
    what: tuple[str, str],
    out: Path,
    write: Callable[[Path], list[dict[str, str]]],
) -> None:
    """Finish a file, or note why it cannot be: the run goes on with the rest."""
    kind, scheme = what
    note = out / SCRATCH / f"{kind}-{scheme}-fallbacks.json"  # outlives a kill, as the file does

    def write_both(part: Path) -> None:
        fallbacks = write(part)
        write_atomic(note, json.dumps(fallbacks))

    try:
        _finish(path, out, write_both)
    except Unsupported as error:
        written.refuse(kind, [scheme], error)
        return
    fallbacks = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else []
    parts = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    file = {
        "name": f"{scheme}.{kind}",
        "format": kind,
        "scheme": scheme,
        "path": path.relative_to(out).as_posix(),
        "bytes": sum(part.stat().st_size for part in parts),
        "tensor_bytes": _tensor_bytes(path),
        "sha256": hash_source(path),
        "lossless": scheme in LOSSLESS_KL,
        "fallbacks": fallbacks,
    }
    written.files.append(file)


def _tensor_bytes(path: Path) -> int:
    """Return the bytes of a file's tensors, without header, vocabulary and graph.

    Of a GGUF file all that follows its header, padding included; of an ONNX folder its external
    data, which hold every matrix.
    """
    if path.is_file():
        tensors = open_gguf(path).tensors.values()
        return path.stat().st_size - min(tensor.offset for tensor in tensors)
    return tensor_bytes(path)


def _finish(path: Path, out: Path, write: Callable[[Path], Any]) -> None:
    """Write under another name and rename, so that what has the right name is whole."""
    if path.exists():
        return
    part = out / SCRATCH / f"unfinished-{path.name}"
    if part.is_dir():
        shutil.rmtree(part)
    part.unlink(missing_ok=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    write(part)
    path.parent.mkdir(parents=True, exist_ok=True)
    rename_whole(part, path)
