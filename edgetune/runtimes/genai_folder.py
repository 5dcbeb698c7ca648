"""Where the graph of an onnxruntime-genai folder lies: at its root, or in a folder of its own."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from edgetune.errors import InputError
from edgetune.models.resolve import read_json
from edgetune.runtimes import GENAI_CONFIG


def read_decoder(folder: Path) -> dict[str, Any]:
    """Return what ``genai_config.json`` says of the decoder.

    Raises:
        InputError: it cannot be read, or says nothing.
    """
    path = folder / GENAI_CONFIG
    config = read_json(path, "an ONNX folder of the genai builder has one")
    try:
        return dict(config["model"]["decoder"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("no key model.decoder", where=str(path)) from error


def find_graph(folder: Path) -> Path:
    """Return the file of the decoder's graph, as ``genai_config.json`` names it.

    Raises:
        InputError: it names one outside the folder.
    """
    name = str(read_decoder(folder).get("filename", "model.onnx"))
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name or not pure.name:
        raise InputError(
            f"the graph '{name[:80]}' is not in the folder", where=str(folder / GENAI_CONFIG)
        )
    return folder / name
