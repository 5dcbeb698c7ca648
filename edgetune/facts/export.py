"""What export wrote and found: files, adapters, checks, gates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edgetune.facts.gate import GateResult


@dataclass(frozen=True)
class Refusal:
    """A file that a format cannot hold, and why."""

    format: str
    scheme: str
    why: str


@dataclass(frozen=True)
class FileChecks:
    """A file compared with the merged model.

    Attributes:
        token_ids_equal: whether all probe texts and prompts have the same token ids.
        texts: how many those are.
        different: the first of them that differ.
        texts_left_out: probes that the tokenizer's normalizer would change.
        kl_all_tokens: mean KL(merged || file) over all tokens of rows, nats per token; of a file
            with an adapter over it, to base + adapter in torch.
        top1_all_tokens: fraction of those tokens with the same most likely token.
        positions: how many tokens those are.
    """

    token_ids_equal: bool
    texts: int
    kl_all_tokens: float
    top1_all_tokens: float
    positions: int = 0
    different: list[str] = field(default_factory=list)
    texts_left_out: int = 0


@dataclass(frozen=True)
class ExportedFile:
    """A GGUF file or an ONNX folder; or a GGUF file that was tuned over, with its adapter.

    Attributes:
        name: ``<scheme>.<format>``.
        format: ``gguf`` or ``onnx``.
        scheme: ``Q4_K_M``, ``int4`` …
        path: inside the artifact; of a file that was tuned over, where it lies.
        bytes: of the file, or of all files of the folder; with the adapter's.
        sha256: of the file, or of the folder's names and hashes.
        tensor_bytes: of the tensors' data alone.
        lossless: whether the scheme holds the merged weights exactly.
        fallbacks: tensors of another type than the scheme asks for, and why.
        checks: the comparison with the merged model.
        modelfile: path of Ollama's Modelfile beside it.
        modelfile_template: whether that Modelfile has a template.
        adapter: path of the adapter that is loaded over it, inside the artifact.
    """

    name: str
    format: str
    scheme: str
    path: str
    bytes: int
    sha256: str
    tensor_bytes: int | None = None
    lossless: bool | None = None
    fallbacks: list[dict[str, Any]] = field(default_factory=list)
    checks: FileChecks | None = None
    modelfile: str | None = None
    modelfile_template: bool | None = None
    adapter: str | None = None


@dataclass(frozen=True)
class ExportedAdapter:
    """An adapter shipped alone, measured over the float32 base.

    ``kl_all_tokens`` and ``top1_all_tokens`` compare with base + adapter in torch,
    ``kl_all_tokens_to_merged`` with the merged model. One that was trained over a GGUF file is
    measured over that file's values in float32, and ``base`` is the file's hash.
    """

    name: str
    format: str
    path: str
    bytes: int
    sha256: str
    kl_all_tokens: float
    kl_all_tokens_to_merged: float | None = None
    top1_all_tokens: float | None = None
    tensors: int | None = None
    base: str | None = None


@dataclass(frozen=True)
class ExportFacts:
    """What export wrote, could not write, and the gates of the files."""

    files: list[ExportedFile] = field(default_factory=list)
    adapters: list[ExportedAdapter] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    gates: list[GateResult] = field(default_factory=list)
