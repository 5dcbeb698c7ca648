"""What a model's contract and configuration want its GGUF files to say of themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgetune.artifact import hash_file
from edgetune.data.contract import NAME as CONTRACT
from edgetune.data.contract import read_contract
from edgetune.export.gguf.converter import GgufHeader
from edgetune.models.resolve import read_json


def header_of(model: Path, name: str) -> GgufHeader:
    """Return what the model in ``model``, and its contract, want a GGUF file to say."""
    greedy = _answers_greedily(model)
    if not (model / CONTRACT).is_file():
        return GgufHeader(name, greedy=greedy)
    contract = read_contract(model)
    end, *others = contract["stop_ids"]
    hashes = {
        "edgetune.contract.sha256": hash_file(model / CONTRACT),
        "edgetune.chat_template.sha256": contract["chat_template_sha256"],
    }
    # A client that puts BOS before a text must not, where training's prompts have none.
    begin = json.loads((model / "config.json").read_text(encoding="utf-8")).get("bos_token_id")
    begins = all(golden["ids"][:1] == [begin] for golden in contract["golden"])
    other = others[0] if others else None
    return GgufHeader(
        name, end, other, None if begins else False, _find_begin(model, contract), greedy, hashes
    )


def _answers_greedily(model: Path) -> bool:
    """Whether transformers answers with the likeliest token, as ``generation_config.json`` says."""
    path = model / "generation_config.json"
    return not (path.is_file() and read_json(path, "").get("do_sample"))


def _find_begin(model: Path, contract: dict[str, Any]) -> int | None:
    """Return a BOS token for a model without: what every prompt begins with, else its end.

    None where the chat template writes the BOS token: that of such a model is empty, and llama.cpp
    would write this one.
    """
    template = model / "chat_template.jinja"
    if template.is_file() and "bos_token" in template.read_text(encoding="utf-8"):
        return None
    first = {golden["ids"][0] for golden in contract["golden"] if golden["ids"]}
    return first.pop() if len(first) == 1 else int(contract["end_id"])
