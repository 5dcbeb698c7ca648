"""An ONNX folder as its clients look for it: one layout that all of them load untouched.

onnxruntime-genai goes by ``genai_config.json``; transformers.js takes ``onnx/model<dtype>.onnx``
and its weights in ``<graph>_data`` (its ``src/utils/dtypes.js``), the data type from
``config.json`` and the chat template from ``tokenizer_config.json``; optimum finds the graph.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import onnx

from edgetune.disk import rename_whole, write_atomic
from edgetune.models.tokenizer_files import suit_transformers_4
from edgetune.quantize.formats.nbits import layout_of
from edgetune.runtimes import GENAI_CONFIG

GRAPHS = "onnx"  # the folder of the graph
#: transformers.js's data types, by which it knows a graph's name.
SUFFIXES = {"fp32": "", "fp16": "_fp16", "q8": "_quantized", "q4": "_q4"}
_PLAIN = {"F32": "fp32", "F16": "fp16"}
_COPIED = ("config.json", "contract.json", "generation_config.json", "chat_template.jinja")


def data_type(settings: dict[str, Any]) -> str:
    """Return transformers.js's name for a plan's settings: one of :data:`SUFFIXES`.

    It has none for a mix; such a file goes by its narrowest blocks, as `edgetune verify` names it.
    """
    kinds = [settings["weights"], *settings.get("types", {}).values()]
    blocks = [kind for kind in kinds if kind not in _PLAIN]
    if not blocks:
        return _PLAIN[settings["weights"]]
    return "q4" if min(layout_of(kind).bits for kind in blocks) <= 4 else "q8"


def graph_name(dtype: str) -> str:
    """Return the path of the graph of a data type inside its folder."""
    return f"{GRAPHS}/model{SUFFIXES[dtype]}.onnx"


def data_name(graph: Path) -> str:
    """Return the name of the file of a graph's weights, which lies beside it."""
    return graph.name + "_data"


def write_graph(model: onnx.ModelProto, path: Path) -> None:
    """Write the graph alone; its external data stays as it lies."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(model.SerializeToString())
    rename_whole(temporary, path)


def finish_folder(folder: Path, target: Path, dtype: str) -> None:
    """Copy what clients read beside the graph, and say in it where the graph is.

    Args:
        folder: the Hugging Face folder of the model.
        target: the ONNX folder, with what the builder wrote.
        dtype: of its graph; one of :data:`SUFFIXES`.
    """
    for name in _COPIED:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)
    shutil.copyfile(folder / "tokenizer.json", target / "tokenizer.json")
    template = target / "chat_template.jinja"
    text = template.read_text(encoding="utf-8") if template.is_file() else None
    suit_transformers_4(target, text)
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    config["transformers.js_config"] = {"dtype": dtype, "use_external_data_format": True}
    write_atomic(target / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    genai = json.loads((target / GENAI_CONFIG).read_text(encoding="utf-8"))
    genai["model"]["decoder"]["filename"] = graph_name(dtype)
    contract = folder / "contract.json"
    if contract.is_file():
        ends = json.loads(contract.read_text(encoding="utf-8"))["stop_ids"]
        genai["model"]["eos_token_id"] = ends if len(ends) > 1 else ends[0]
    write_atomic(target / GENAI_CONFIG, json.dumps(genai, indent=1))
