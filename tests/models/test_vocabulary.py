"""A tokenizer with ids that the embedding has no row for is refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgetune.errors import Unsupported
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.models.vocabulary import check_vocabulary


def test_tokenizer_of_more_tokens_than_the_embedding(tiny_model: Path, tmp_path: Path) -> None:
    check_vocabulary(tiny_model)
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    tokenizer = load_tokenizer(folder)
    size = len(tokenizer)
    tokenizer.add_tokens(["<one>", "<two>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(Unsupported, match=f"{size + 2} tokens .* {size} rows: .*'<one>'"):
        check_vocabulary(folder)
