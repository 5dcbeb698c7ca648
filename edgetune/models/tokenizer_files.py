"""A tokenizer's files: loaded, and written as transformers 4 and what is built on it read them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from edgetune.disk import write_atomic
from edgetune.errors import reading
from edgetune.models.chat_template import fold_templates

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONFIG = "tokenizer_config.json"
FILES = (
    "tokenizer.json", CONFIG, "tokenizer.model", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja", "chat_template.json",
)  # fmt: skip
_GENERIC = {"TokenizersBackend", "PreTrainedTokenizerFast"}  # transformers 5's name, and 4's


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model folder, without running code from it.

    Raises:
        InputError: the files cannot be read.
    """
    from transformers import AutoTokenizer

    with reading("cannot load the tokenizer", str(folder)):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    tokenizer.chat_template = fold_templates(tokenizer.chat_template, str(folder))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


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
