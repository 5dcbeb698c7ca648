"""A tokenizer's files as transformers 4, and what is built on it, reads them too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from edgetune.disk import write_atomic

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONFIG = "tokenizer_config.json"
FILES = (
    "tokenizer.json", CONFIG, "tokenizer.model", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja", "chat_template.json",
)  # fmt: skip
_GENERIC = {"TokenizersBackend", "PreTrainedTokenizerFast"}  # transformers 5's name, and 4's


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the tokenizer's files into ``folder``, for both versions of transformers."""
    tokenizer.save_pretrained(folder)
    suit_transformers_4(folder)


def suit_transformers_4(folder: Path, template: str | None = None) -> None:
    """Name in ``tokenizer_config.json`` what transformers 4 and 5 both know.

    Version 5 saves ``TokenizersBackend`` and a list of ``extra_special_tokens``; version 4 has no
    such class and expects a mapping there. Its generic class also makes ``token_type_ids``, which
    a decoder's ``generate`` refuses, unless the names of the inputs are given.

    Args:
        folder: with the tokenizer's files; nothing happens where it has no configuration.
        template: chat template to write there too, for clients that read no
            ``chat_template.jinja``.
    """
    path = folder / CONFIG
    if not path.is_file():
        return
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("tokenizer_class", "TokenizersBackend") in _GENERIC:
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        config.setdefault("model_input_names", ["input_ids", "attention_mask"])
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    if template is not None:
        config["chat_template"] = template
    write_atomic(path, json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def copy_tokenizer(source: Path, target: Path) -> None:
    """Replace the tokenizer of a folder by another's; none of the old files stays."""
    for name in FILES:
        (target / name).unlink(missing_ok=True)
        if (source / name).is_file():
            shutil.copy(source / name, target / name)
