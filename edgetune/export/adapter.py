"""Ship the adapter alone, in the formats asked for, each held against base + adapter in torch."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from edgetune.artifact import Artifact, hash_file
from edgetune.compare.model_spec import LOSSLESS_KL
from edgetune.errors import InputError, Unsupported
from edgetune.export.check import Reference
from edgetune.export.gguf.adapter import write_gguf_adapter
from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf
from edgetune.export.onnx.adapter import FILE, write_onnx_adapter
from edgetune.export.onnx.folder import finish_folder
from edgetune.facts import ExportedAdapter, GateResult, Refusal
from edgetune.measure.quality import Scores, score_rows
from edgetune.measure.reference import ReferenceLogProbs
from edgetune.models.checkpoint import Checkpoint
from edgetune.models.lineage import fingerprint_adapter, lineage_of, read_stamp
from edgetune.models.ref import ModelRef
from edgetune.runtimes import Runtime, find_opener, open_runtime


@dataclass
class Shipped:
    """What was made of an adapter.

    Attributes:
        adapters: one per format.
        gates: that each is lossless.
        refused: formats that cannot hold it.
    """

    adapters: list[ExportedAdapter] = field(default_factory=list)
    gates: list[GateResult] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)


@dataclass(frozen=True)
class AdapterExport:
    """An adapter to be written alone.

    Attributes:
        base: folder of the model it goes on.
        adapter: PEFT's folder.
        merged: folder of the merged model, whose template and end tokens hold.
        name: of the files.
        out: the artifact's directory.
    """

    base: Path
    adapter: Path
    merged: Path
    name: str
    out: Path


def find_adapter(inputs: dict[str, Artifact]) -> ModelRef:
    """Return base and adapter of what is shipped.

    Raises:
        InputError: something else than an adapter over the base is shipped.
    """
    where = "export.adapter"
    tuned, merged = inputs.get("tune"), inputs["merge"]
    if merged.facts.get("from") == "distill":
        raise InputError(
            "the student is shipped, and the adapter belongs to its teacher",
            where=where,
            hint="leave the distill section out, or set export.adapter: false",
        )
    if tuned is None:
        raise InputError(
            "no adapter is known here",
            where=where,
            hint="name what `edgetune tune` made: --adapter",
        )
    trained = ModelRef.from_json(tuned.facts["model"], tuned.path)
    if trained.adapter is None or tuned.facts.get("earlier"):
        what = "all weights were trained" if trained.adapter is None else "there are several"
        raise InputError(
            f"there is no one adapter over the base: {what}",
            where=where,
            hint="set export.adapter: false",
        )
    stamp = read_stamp(Checkpoint(merged.model_folder).files)
    if stamp not in (None, f"{lineage_of(trained.base)}+{fingerprint_adapter(trained.adapter)}"):
        raise InputError(
            "the merged model was not made of this adapter",
            where=str(trained.adapter),
            hint="name the folder of `edgetune tune` that was given to `edgetune merge`",
        )
    return trained


def ship_adapter(
    export: AdapterExport, formats: Sequence[str], reference: Reference, threads: int
) -> Shipped:
    """Write the adapter in each format and measure it over the base.

    ``gguf/<name>-adapter.gguf`` goes on any GGUF file of the base; ``onnx/adapter/`` holds a graph
    of the base that takes the adapter with it, since no other graph does, and says of prompts
    and end tokens what the merged model says.

    Args:
        export: the adapter, and where it goes.
        formats: ``gguf``, ``onnx``.
        reference: rows to compare on, and the merged model's distributions at them.
        threads: of the runtimes.
    """
    # 1. Base + adapter in torch, as it was trained.
    shipped = Shipped()
    kept = export.out / "scratch" / "adapter.npy"
    runtime = open_runtime(ModelRef(export.base, export.adapter), threads)
    try:
        score_rows(runtime, reference.rows, keep=kept)
    finally:
        runtime.close()
    wanted = {"trained": ReferenceLogProbs(kept), "merged": reference.log_probs}
    for kind in formats:
        # 2. The adapter in each format, unless that cannot hold it.
        try:
            written = _WRITERS[kind](export)
        except Unsupported as error:
            shipped.refused.append(Refusal(kind, "adapter", error.what))
            continue
        # 3. In its own runtime on the base, compared with torch and with the merged model.
        runtime = written.open(threads, "cpu")
        try:
            scores = score_rows(runtime, reference.rows, wanted)
        finally:
            runtime.close()
        adapter = _describe(export, kind, written, scores)
        shipped.adapters.append(adapter)
        found, limit = adapter.kl_all_tokens, LOSSLESS_KL["F32"]
        gate = f"adapter.{kind} kl_all_tokens_to_base_and_adapter"
        shipped.gates.append(GateResult(gate, limit, found, found <= limit))
    return shipped


@dataclass(frozen=True)
class _Written:
    """A written adapter: its file, how many tensors it has, what opens the base with it."""

    path: Path
    tensors: int
    open: Callable[[int, str], Runtime]


def _describe(
    export: AdapterExport, kind: str, written: _Written, scores: Scores
) -> ExportedAdapter:
    return ExportedAdapter(
        name=f"adapter.{kind}",
        format=kind,
        path=written.path.relative_to(export.out).as_posix(),
        bytes=written.path.stat().st_size,
        sha256=hash_file(written.path),
        tensors=written.tensors,
        base=lineage_of(export.base),
        kl_all_tokens=scores.mean_kl("trained").value,
        kl_all_tokens_to_merged=scores.mean_kl("merged").value,
        top1_all_tokens=scores.top1_agreement("trained").value,
    )


def _write_gguf(export: AdapterExport) -> _Written:
    path = export.out / "gguf" / f"{export.name}-adapter.gguf"
    plain = export.out / "scratch" / "base-F32.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = write_gguf_adapter(export.base, export.adapter, path, export.name)
    convert_gguf(export.base, plain, GgufHeader("base"))
    opener: Any = find_opener(plain)
    return _Written(path, tensors, partial(opener, adapter=path))


def _write_onnx(export: AdapterExport) -> _Written:
    folder = export.out / "onnx" / "adapter"
    shutil.rmtree(folder, ignore_errors=True)  # what a kill left
    folder.parent.mkdir(parents=True, exist_ok=True)
    tensors = write_onnx_adapter(
        export.base, export.adapter, folder, export.out / "scratch" / "builder"
    )
    # Template and end tokens of the training, not of the base.
    finish_folder(export.merged, folder, "fp32")
    path = folder / FILE
    opener: Any = find_opener(folder)
    return _Written(path, tensors, partial(opener, adapter=path))


_WRITERS = {"gguf": _write_gguf, "onnx": _write_onnx}
