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
from edgetune.measure.quality import ReferenceLogProbs, score_rows
from edgetune.models.checkpoint import Checkpoint
from edgetune.models.lineage import fingerprint_adapter, lineage_of, read_stamp
from edgetune.models.ref import ModelRef
from edgetune.runtimes import find_opener, open_runtime


@dataclass
class Shipped:
    """What was made of an adapter.

    Attributes:
        adapters: ``{"name", "format", "path", "bytes", "sha256", "tensors", "base"}`` and what each
            was found to be: ``kl_all_tokens`` and ``top1_all_tokens`` to base + adapter in torch,
            ``kl_all_tokens_to_merged``.
        gates: that each is lossless.
        refused: ``{"format", "scheme", "why"}``.
    """

    adapters: list[dict[str, Any]] = field(default_factory=list)
    gates: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)


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
    trained: ModelRef,
    merged: Path,
    name: str,
    formats: Sequence[str],
    reference: Reference,
    out: Path,
    threads: int,
) -> Shipped:
    """Write the adapter below ``out`` in each format and measure it over the base.

    ``gguf/<name>-adapter.gguf`` goes on any GGUF file of the base; ``onnx/adapter/`` holds a graph
    of the base that takes the adapter beside it, since no other graph does, and says of prompts
    and end tokens what the folder ``merged`` says.
    """
    assert trained.adapter is not None
    shipped = Shipped()
    kept = out / "scratch" / "adapter.npy"
    runtime = open_runtime(ModelRef(trained.base, trained.adapter), threads)
    try:
        score_rows(runtime, reference.rows, keep=kept)
    finally:
        runtime.close()
    wanted = {"trained": ReferenceLogProbs(kept), "merged": reference.log_probs}
    for kind in formats:
        try:
            path, tensors, opener = _WRITERS[kind](trained.base, trained.adapter, merged, name, out)
        except Unsupported as error:
            shipped.refused.append({"format": kind, "scheme": "adapter", "why": error.what})
            continue
        runtime = opener(threads, "cpu")
        try:
            scores = score_rows(runtime, reference.rows, wanted)
        finally:
            runtime.close()
        found, limit = scores.mean_kl("trained").value, LOSSLESS_KL["F32"]
        shipped.adapters.append(
            {
                "name": f"adapter.{kind}",
                "format": kind,
                "path": path.relative_to(out).as_posix(),
                "bytes": path.stat().st_size,
                "sha256": hash_file(path),
                "tensors": tensors,
                "base": lineage_of(trained.base),
                "kl_all_tokens": found,
                "kl_all_tokens_to_merged": scores.mean_kl("merged").value,
                "top1_all_tokens": scores.top1_agreement("trained").value,
            }
        )
        gate = f"adapter.{kind} kl_all_tokens_to_base_and_adapter"
        shipped.gates.append({"name": gate, "limit": limit, "value": found, "ok": found <= limit})
    return shipped


Written = tuple[Path, int, Callable[[int, str], Any]]  # file, tensors, opener of base with it


def _write_gguf(base: Path, adapter: Path, merged: Path, name: str, out: Path) -> Written:
    path, plain = out / "gguf" / f"{name}-adapter.gguf", out / "scratch" / "base-F32.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = write_gguf_adapter(base, adapter, path, name)
    convert_gguf(base, plain, GgufHeader("base"))
    return path, tensors, partial(find_opener(plain), adapter=path)


def _write_onnx(base: Path, adapter: Path, merged: Path, name: str, out: Path) -> Written:
    folder = out / "onnx" / "adapter"
    shutil.rmtree(folder, ignore_errors=True)  # what a kill left
    folder.parent.mkdir(parents=True, exist_ok=True)
    tensors = write_onnx_adapter(base, adapter, folder, out / "scratch" / "builder")
    finish_folder(
        merged, folder, "fp32"
    )  # template and end tokens of the training, not of the base
    return folder / FILE, tensors, partial(find_opener(folder), adapter=folder / FILE)


_WRITERS = {"gguf": _write_gguf, "onnx": _write_onnx}
