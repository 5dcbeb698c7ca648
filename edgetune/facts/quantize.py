"""What quantize planned, searched and trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edgetune.facts.convert import NULL


@dataclass(frozen=True)
class FormatRefusal:
    """A format that cannot hold the model, and why."""

    format: str
    why: str


@dataclass(frozen=True)
class ImportanceFacts:
    """The importance matrix: how many tensors it knows, and its file's hash."""

    tensors: int = 0
    sha256: str | None = field(default=None, metadata=NULL)


@dataclass(frozen=True)
class QuantizeFacts:
    """The plan of export's files.

    Attributes:
        schemes: by format, the files to write.
        fallbacks: tensors of another type than their scheme asks for, and why.
        refused: formats that cannot hold the model.
        importance: the importance matrix.
        calibration: the rows it was collected on.
        search: of GGUF types, see :class:`~edgetune.quantize.search.problem.SearchResult`.
        search_onnx: likewise of ONNX types.
        requantized: files whose quants a method chose, and what that changed on held-out rows.
    """

    schemes: dict[str, list[str]] = field(default_factory=dict)
    fallbacks: list[dict[str, str]] = field(default_factory=list)
    refused: list[FormatRefusal] = field(default_factory=list)
    importance: ImportanceFacts = field(default_factory=ImportanceFacts)
    calibration: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    search_onnx: dict[str, Any] = field(default_factory=dict)
    requantized: list[dict[str, Any]] = field(default_factory=list)
