"""Facts that stages report: dataclasses, written into ``artifact.json`` and read back.

A field whose default is ``None`` is left out where it has no value, so that a kept run of an
earlier version, which lacks it, reads the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

from edgetune.errors import InputError

Facts = TypeVar("Facts")


@dataclass(frozen=True)
class GateResult:
    """A limit, the value compared with it (``None``: not measured), and whether it holds."""

    name: str
    limit: int | float  # as it was written: 1 stays 1
    value: int | float | None
    ok: bool


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
        kl_all_tokens: mean KL(merged || file) over all tokens of rows, nats per token.
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
    """A GGUF file or an ONNX folder.

    Attributes:
        name: ``<scheme>.<format>``.
        format: ``gguf`` or ``onnx``.
        scheme: ``Q4_K_M``, ``int4`` …
        path: inside the artifact.
        bytes: of the file, or of all files of the folder.
        sha256: of the file, or of the folder's names and hashes.
        tensor_bytes: of the tensors' data alone.
        lossless: whether the scheme holds the merged weights exactly.
        fallbacks: tensors of another type than the scheme asks for, and why.
        checks: the comparison with the merged model.
        modelfile: path of Ollama's Modelfile beside it.
        modelfile_template: whether that Modelfile has a template.
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


@dataclass(frozen=True)
class ExportedAdapter:
    """An adapter shipped alone, measured over the float32 base.

    ``kl_all_tokens`` and ``top1_all_tokens`` compare with base + adapter in torch,
    ``kl_all_tokens_to_merged`` with the merged model.
    """

    name: str
    format: str
    path: str
    bytes: int
    sha256: str
    kl_all_tokens: float
    kl_all_tokens_to_merged: float
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


@dataclass(frozen=True)
class Measurement:
    """A metric of a model, as :mod:`edgetune.measure.definitions` defines its name.

    Attributes:
        name: of the metric.
        value: NaN where it could not be computed.
        unit: empty for a ratio or a plain number.
        n: observations behind it.
        ci95: 95 % confidence interval, where one makes sense.
        where: runtime, device, threads and, for times, lengths of prompt and answer.
    """

    name: str
    value: float
    unit: str
    n: int
    ci95: list[float] | None
    where: dict[str, Any]


@dataclass(frozen=True)
class MeasuredModel:
    """A model or file and its measurements; ``role`` is its place in the run."""

    name: str
    role: str
    format: str
    scheme: str
    path: str
    sha256: str
    bytes: int
    measurements: list[Measurement]


@dataclass(frozen=True)
class BenchFacts:
    """All models that bench measured, in the report's order."""

    models: list[MeasuredModel]


def to_json(facts: object) -> Any:
    """Return dataclasses as JSON values, without optional fields that have no value."""
    if is_dataclass(facts) and not isinstance(facts, type):
        values = ((one, getattr(facts, one.name)) for one in fields(facts))
        return {
            one.name: to_json(value)
            for one, value in values
            if value is not None or one.default is not None
        }
    if isinstance(facts, list | tuple):
        return [to_json(one) for one in facts]
    return facts


def from_json(kind: type[Facts], values: Mapping[str, Any]) -> Facts:
    """Return JSON values as the dataclass ``kind``; keys it does not know are ignored.

    Raises:
        InputError: a value is missing or of another type.
    """
    from pydantic import TypeAdapter  # its import is not for processes that only measure

    try:
        found: Facts = TypeAdapter(kind).validate_python(dict(values))
    except ValueError as error:
        raise InputError(
            f"facts of another version: {error}", hint="run the stage that wrote them again"
        ) from error
    return found
