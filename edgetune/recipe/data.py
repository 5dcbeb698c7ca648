"""The recipe's section `data`: sources, their shape, and how rows become tokens."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgetune.recipe.cleaning import CleanSection
from edgetune.recipe.section import Count, Fraction, PathText, Positive, Section

Format = Literal[
    "auto",
    "messages",
    "prompt_completion",
    "instruction",
    "sharegpt",
    "classification",
    "text",
    "columns",
    "preference",
    "unpaired_preference",
    "prompt_only",
]


#: Where a text names a column whose value is put there.
COLUMN_PLACE = re.compile(r"\{([^{}]+)\}")


class Columns(Section):
    """Names of the columns that hold a row's parts, for files of no known shape."""

    prompt: str = Field(
        description="column of the prompt, or a text with columns in braces: {question} ({topic})"
    )
    completion: str = Field(description="column of the answer, or a text with columns in braces")
    system: str | None = Field(None, description="column of the system message")

    def names(self, found: Collection[str]) -> dict[str, list[str]]:
        """Return the columns that each key reads, whether they are found or not.

        A text with braces that is a column's name is that column.
        """
        return {
            key: [told]
            if told in found or key == "system"
            else list(dict.fromkeys(COLUMN_PLACE.findall(told))) or [told]
            for key, told in self.model_dump(exclude_none=True).items()
        }


class ChunkSection(Section):
    """Split long texts and documents into chunks, at headings and ends of sentences."""

    tokens: Count = Field(512, description="most tokens of a chunk, of the model's tokenizer")
    overlap: Annotated[int, Field(ge=0)] = Field(
        64, description="tokens of the chunk before that a chunk repeats, inside a long passage"
    )

    @model_validator(mode="after")
    def _check_overlap(self) -> ChunkSection:
        if self.overlap >= self.tokens:
            raise ValueError(f"overlap {self.overlap} is no less than tokens {self.tokens}")
        return self


class DataSource(Section):
    """One source among others, with what is known of it; a path alone is short for its `path`."""

    path: PathText = Field(
        description="file, folder, pattern, dataset saved to disk, hf:owner/name (a dataset of the "
        "Hugging Face hub), or sqlite:///file.db"
    )
    weight: Positive = Field(
        1.0,
        description="how often a row is in train: 2 is twice, 0.5 a half of the rows, by the seed",
    )
    limit: Count | None = Field(None, description="use only so many rows, by the seed")
    format: Format | None = Field(None, description="shape of its rows; absent: data.format")
    columns: Columns | None = Field(None, description="its columns; absent: data.columns")
    config: str | None = Field(None, description="configuration of a dataset on the hub")
    revision: str | None = Field(
        None, description="branch, tag or commit of a dataset on the hub; absent: main"
    )
    split: str | None = Field(
        None, description="the one of its splits that is taken, such as train_sft"
    )
    query: str | None = Field(None, description="SQL query whose rows a SQLite file gives")
    license: str | None = Field(None, description="licence of its rows")
    origin: str | None = Field(None, description="where its rows come from")
    confidential: bool = Field(
        False,
        description="true: its rows are sent to no remote teacher, and shown in no report or card",
    )

    @model_validator(mode="after")
    def _check_query(self) -> DataSource:
        if (self.query is not None) != self.path.startswith("sqlite:"):
            raise ValueError(
                "a SQLite file and a query go together: {path: sqlite:///file.db, query: SELECT …}"
            )
        return self


Sources = PathText | DataSource | tuple[PathText | DataSource, ...]


def list_sources(named: str | DataSource | Sequence[str | DataSource]) -> tuple[DataSource, ...]:
    """Return what a recipe names as sources, paths alone too."""
    every = (named,) if isinstance(named, str | DataSource) else named
    return tuple(
        DataSource.model_construct(path=one) if isinstance(one, str) else one for one in every
    )


class SplitSection(Section):
    """How validation rows are split from train."""

    group_by: str = Field(
        "prompt",
        description="what stays together: prompt (rows of one prompt), cluster (similar rows too) "
        "or a column",
    )
    stratify: bool = Field(False, description="the same fraction of each answer, such as a label")


class DataSection(Section):
    """Rows to train, validate and test on."""

    train: Sources = Field(
        description="file, folder of files, pattern (data/*.jsonl), a Hugging Face dataset saved "
        "to disk or on the hub, one of these with its weight and licence, or a list of them"
    )
    validation: Sources | None = Field(
        None, description="absent: train's own validation split, or split from train with the seed"
    )
    test: Sources | None = Field(
        None,
        description="rows the models are evaluated on; absent: train's own test split, or the "
        "validation rows",
    )
    format: Format = Field("auto", description="shape of a row; auto detects it and says so")
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
    split: SplitSection = Field(SplitSection(), description="how validation rows are split off")
    limit: Count | None = Field(None, description="use only so many train rows")
    chunk: ChunkSection | None = Field(
        None, description="chunks of long texts; absent: they train in pieces of max_length"
    )
    canary: Count | None = Field(
        None,
        description="plant so many random secrets in train; bench measures whether models "
        "remember them",
    )
    clean: CleanSection = Field(CleanSection(), description="what is checked in rows")

    @property
    def confidential(self) -> tuple[str, ...]:
        """Paths of the sources whose rows may not leave this machine."""
        named = [one for one in (self.train, self.validation, self.test) if one is not None]
        return tuple(s.path for one in named for s in list_sources(one) if s.confidential)
