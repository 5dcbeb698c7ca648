"""What software makes a stage's bytes: it is part of the stage's key, as the recipe is."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from pathlib import Path

_TRAINS = ("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes")
_CONVERTS = ("auto-round", "gguf", "llama-cpp-python", "torch", "transformers")
#: Distributions whose code decides the bytes of a stage's artifact.
LIBRARIES: dict[str, tuple[str, ...]] = {
    "synthesize": ("llama-cpp-python", "torch", "transformers"),
    "prepare": ("tokenizers", "transformers", "pyarrow", "ftfy", "py3langid", "rensa"),
    "tune": _TRAINS,
    "control": _TRAINS,
    "distill": _TRAINS,
    "merge": ("torch", "transformers", "peft", "bitsandbytes"),
    "quantize": (*_CONVERTS, "onnxruntime-genai", "onnx"),
    "export": (*_CONVERTS, "onnxruntime-genai", "onnx", "onnxruntime"),
    "bench": ("llama-cpp-python", "onnxruntime", "torch", "transformers"),
}
#: Stages that run llama.cpp's converter, which ``LLAMA_CPP_ROOT`` may name.
CONVERTING = ("quantize", "export")


def library_keys(stage: str) -> dict[str, str]:
    """Return ``library:NAME`` to version for what makes a stage's bytes.

    A converter that ``LLAMA_CPP_ROOT`` names is known by a hash of its code.
    """
    found = {f"library:{name}": _version(name) for name in LIBRARIES.get(stage, ())}
    root = os.environ.get("LLAMA_CPP_ROOT")
    if root and stage in CONVERTING:
        found["library:llama.cpp converter"] = _hash_code(Path(root) / "conversion")
    return found


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def _hash_code(folder: Path) -> str:
    """Hash the Python files of a folder; what running them leaves there does not count."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()
