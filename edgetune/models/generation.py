"""A model's defaults for generating, where its own library refuses to write them again.

Many published models hold what transformers reads with a warning and refuses to save: greedy
decoding together with a temperature (Llama 2 chat, Vicuna). Nothing here generates by these
defaults, so training goes on without them, and the file is copied as it was.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from edgetune.log import Log

NAME = "generation_config.json"


def mend_generation_config(model: Any) -> None:
    """Leave a loaded model only its special tokens, where the whole configuration is refused."""
    config = getattr(model, "generation_config", None)
    if config is None or _fault(config) is None:
        return
    kept = {
        name: value
        for name, value in config.to_diff_dict().items()
        if name.endswith("_token_id") and value is not None
    }
    model.generation_config = GenerationConfig(**kept)


def restore_generation_config(source: Path, out: Path, log: Log | None = None) -> None:
    """Put the file of the model in ``source`` into ``out``, if it is one that loading fixes.

    With ``log``, say so.
    """
    fault = generation_fault(source)
    if fault is None:
        return
    shutil.copyfile(source / NAME, out / NAME)
    if log is not None:
        log.warn(
            f"{NAME} of the model contradicts itself ({fault}); it is kept as it is, and clients "
            "decide what they make of it"
        )


def generation_fault(folder: Path) -> str | None:
    """Say what is wrong with a folder's defaults, or nothing."""
    if not (folder / NAME).is_file():
        return None
    try:
        return _fault(GenerationConfig.from_pretrained(folder))
    except (ValueError, OSError) as error:
        return str(error)


def _fault(config: GenerationConfig) -> str | None:
    try:
        config.validate(strict=True)
    except ValueError as error:
        names = [line.split("`")[1] for line in str(error).splitlines() if line.startswith("- `")]
        return f"{', '.join(names)} without what reads them" if names else str(error)
    return None
