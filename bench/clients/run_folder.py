"""A run's folder: its files, its first test questions, and edgetune's own answers to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from edgetune.data.contract import encoder_of
from edgetune.data.dataset.make import load_splits
from edgetune.log import Log
from edgetune.recipe import Recipe
from edgetune.runtimes import open_runtime


def find_files(run: Path) -> tuple[Path, dict[str, tuple[str, Path]]]:
    """Return the merged folder of a run, and by scheme the kind and path of each file.

    A run on one folder or the two folders of ``edgetune merge`` and ``edgetune export`` in it.
    """

    def newest(pattern: str) -> Path:
        return max(run.glob(pattern), key=lambda path: path.stat().st_mtime)

    merged, export = newest("merge-*/model"), newest("export-*/artifact.json").parent
    facts = json.loads((export / "artifact.json").read_text(encoding="utf-8"))["facts"]
    files = {
        str(one["scheme"]): (str(one["format"]), (export / one["path"]).resolve())
        for one in facts["files"]
    }
    return merged.resolve(), {**files, "merged": ("merged", merged.resolve())}


def encoder_and_rows(run: Path, rows: int) -> tuple[Any, list[Any]]:
    """Return the encoder of the run's merged model, and the run's first test rows."""
    recipe = Recipe.model_validate(yaml.safe_load((run / "recipe.yaml").read_text()))
    merged, _ = find_files(run)
    test = load_splits(recipe.data, recipe.seed, Log(quiet=True)).test  # type: ignore[arg-type]
    return encoder_of(merged, recipe.data), test[:rows]  # type: ignore[arg-type]


def find_questions(run: Path, rows: int) -> list[list[dict[str, str]]]:
    """Return the conversations of the run's first test rows, without their answers."""
    encoder, found = encoder_and_rows(run, rows)
    return [
        [{"role": turn.role, "content": turn.content} for turn in encoder.messages(row)[:-1]]
        for row in found
    ]


def own_answers(run: Path, job: dict[str, Any]) -> list[str]:
    """Return the answers of edgetune's own runtime to a GGUF file or an ONNX folder."""
    encoder, _ = encoder_and_rows(run, 1)
    prompts = [
        encoder.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=True
        )["input_ids"]
        for messages in job["questions"]
    ]
    runtime = open_runtime(Path(job["path"]), threads=1)
    try:
        answers = runtime.generate(prompts, job["tokens"], list(encoder.stop_ids))
    finally:
        runtime.close()
    return [encoder.tokenizer.decode(ids, skip_special_tokens=True) for ids in answers]
