"""Ship an adapter over the very GGUF file that it was trained over: nothing is merged or rounded.

llama.cpp multiplies quantized weights by activations rounded to 8 bits on a CPU, which torch does
not. So the pair is measured twice: over the file's values written as float32, where logits have to
be the training's, and over the file itself, which tells what those roundings do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edgetune.artifact import Artifact, hash_file
from edgetune.compare.model_spec import LOSSLESS_KL
from edgetune.errors import InputError, Unsupported
from edgetune.export.check import Reference, check_file, make_gates
from edgetune.export.gguf.adapter import write_gguf_adapter
from edgetune.export.gguf.write import Quantization, write_gguf
from edgetune.facts import (
    ExportedAdapter,
    ExportedFile,
    ExportFacts,
    FileChecks,
    GateResult,
    from_json,
)
from edgetune.models.ref import ModelRef
from edgetune.models.training_base import find_training_base
from edgetune.runtimes import find_opener
from edgetune.runtimes.gguf_header import name_scheme, open_gguf


@dataclass(frozen=True)
class Pair:
    """A GGUF file and the adapter that was trained over it.

    Attributes:
        base: folder that gave configuration and tokenizer.
        adapter: PEFT's folder.
        file: the GGUF file.
        sha256: of the file.
    """

    base: Path
    adapter: Path
    file: Path
    sha256: str


def find_over_gguf(inputs: Mapping[str, Artifact]) -> ModelRef | None:
    """Return what was tuned, if that was over a GGUF file and nothing was made of it since."""
    tuned = inputs.get("tune")
    if tuned is None or "merge" in inputs or not tuned.facts["model"].get("gguf"):
        return None
    return ModelRef.from_json(tuned.facts["model"], tuned.path)


def find_pair(trained: ModelRef) -> Pair:
    """Return what was tuned over a GGUF file, once the file is seen to be the same still.

    Raises:
        InputError: the file is gone or has changed since.
    """
    assert trained.gguf is not None
    if trained.adapter is None:
        raise Unsupported("no adapter was trained over it", where=str(trained.gguf))
    if not trained.gguf.is_file():
        raise InputError(
            "the GGUF file that was tuned over is gone",
            where=str(trained.gguf),
            hint="put it back: the adapter is right over it alone",
        )
    found, known = hash_file(trained.gguf), find_training_base(trained.adapter)
    if known is not None and known.gguf not in (None, found):
        raise InputError(
            "this is not the GGUF file that was tuned over: its SHA-256 begins with "
            f"{found[:12]}, and that of the training with {str(known.gguf)[:12]}",
            where=str(trained.gguf),
            hint="put that file back, or tune over this one",
        )
    return Pair(trained.base, trained.adapter, trained.gguf, found)


def ship_over_gguf(
    pair: Pair, reference: Reference, name: str, out: Path, threads: int
) -> ExportFacts:
    """Write ``gguf/<name>-adapter.gguf`` and measure it over its file in llama.cpp.

    Args:
        pair: what was trained.
        reference: probes, rows, and the distributions of the training's model at them.
        name: of the adapter's file.
        out: the artifact's directory.
        threads: of llama.cpp.

    Raises:
        Unsupported: an adapter that a LoRA file cannot hold.
    """
    # 1. The adapter, as a LoRA file that names its base.
    path = out / "gguf" / f"{name}-adapter.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = write_gguf_adapter(pair.base, pair.adapter, path, name, pair.sha256)

    # 2. Over the file's values as float32: what llama.cpp computes is what torch trained.
    plain = write_plain(pair.file, out / "scratch" / "base-F32.gguf")
    exact = _measure(plain, path, reference, threads)
    if plain != pair.file:
        plain.unlink()

    # 3. Over the file itself, as its users run it.
    checks = _measure(pair.file, path, reference, threads)
    scheme = name_scheme(open_gguf(pair.file))
    file = _describe(pair, path, scheme, checks, out)
    adapter = ExportedAdapter(
        name="adapter.gguf",
        format="gguf",
        path=path.relative_to(out).as_posix(),
        bytes=path.stat().st_size,
        sha256=hash_file(path),
        kl_all_tokens=exact["kl_all_tokens"],
        top1_all_tokens=exact["top1_all_tokens"],
        tensors=tensors,
        base=pair.sha256,
    )
    limit, found = LOSSLESS_KL["F32"], adapter.kl_all_tokens
    gate = "adapter.gguf kl_all_tokens_to_base_and_adapter"
    gates = [GateResult(gate, limit, found, found <= limit)]
    gates += [from_json(GateResult, one) for one in make_gates(file.name, file.scheme, checks)]
    return ExportFacts(files=[file], adapters=[adapter], gates=gates)


def write_plain(path: Path, target: Path) -> Path:
    """Write a GGUF file with its values as float32; return the file itself where it is that."""
    file = open_gguf(path)
    types = dict.fromkeys(file.tensors, "F32")
    if all(tensor.type == "F32" for tensor in file.tensors.values()):
        return path
    target.parent.mkdir(parents=True, exist_ok=True)
    write_gguf(file, target, Quantization("F32", types))
    return target


def _measure(file: Path, adapter: Path, reference: Reference, threads: int) -> dict[str, Any]:
    opener: Any = partial(find_opener(file), adapter=adapter)
    runtime = opener(threads, "cpu")
    try:
        return check_file(runtime, reference)
    finally:
        runtime.close()


def _describe(
    pair: Pair, adapter: Path, scheme: str, checks: dict[str, Any], out: Path
) -> ExportedFile:
    tensors = open_gguf(pair.file).tensors.values()
    return ExportedFile(
        name=f"{pair.file.stem}+adapter.gguf",
        format="gguf",
        scheme=f"{scheme} + LoRA",
        path=str(pair.file),
        bytes=pair.file.stat().st_size + adapter.stat().st_size,
        sha256=pair.sha256,
        tensor_bytes=sum(tensor.bytes for tensor in tensors),
        checks=from_json(FileChecks, checks),
        adapter=adapter.relative_to(out).as_posix(),
    )
