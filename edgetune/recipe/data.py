"""The recipe's section `data`: sources, their shape, and how rows become tokens."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgetune.recipe.cleaning import CleanSection
from edgetune.recipe.section import Count, Fraction, PathText, Section


class Columns(Section):
    """Names of the columns that hold a row's parts, for files of no known shape."""

    prompt: str = Field(description="column of the prompt")
    completion: str = Field(description="column of the answer")
    system: str | None = Field(None, description="column of the system message")


class DataSection(Section):
    """Rows to train, validate and test on."""

    train: PathText | tuple[PathText, ...] = Field(
        description="file, folder of files, pattern (data/*.jsonl), list of these, or a Hugging "
        "Face dataset saved to disk"
    )
    validation: PathText | tuple[PathText, ...] | None = Field(
        None, description="absent: train's own validation split, or split from train with the seed"
    )
    test: PathText | tuple[PathText, ...] | None = Field(
        None,
        description="rows the models are evaluated on; absent: train's own test split, or the "
        "validation rows",
    )
    format: Literal[
        "auto",
        "messages",
        "prompt_completion",
        "instruction",
        "sharegpt",
        "classification",
        "text",
        "columns",
    ] = Field("auto", description="shape of a row; auto detects it and says so")
    columns: Columns | None = Field(
        None, description="names of the columns; needed by format: columns"
    )
    template: Literal["auto", "chat", "plain"] = Field(
        "auto", description="auto: the tokenizer's chat template, or a plain one when it has none"
    )
    system: str | None = Field(None, description="system message put before rows without one")
    on_bad_row: Literal["error", "skip"] = Field(
        "error", description="error: a malformed row stops; skip: it is left out and counted"
    )
    max_length: Count = Field(
        1024,
        description="most tokens per row; longer answers are cut, longer texts train in pieces",
    )
    validation_fraction: Fraction = Field(
        0.05, description="fraction of train split off when there is no validation"
    )
    limit: Count | None = Field(None, description="use only so many train rows")
    clean: CleanSection = Field(CleanSection(), description="what is checked in rows")
