"""The rows that a training on preferences goes over, mapped from a file and never copied."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset
from torch.utils.data import Dataset as TorchDataset

from edgetune.artifact import hash_file
from edgetune.data.preference_tokens import PreferenceTokens
from edgetune.recipe import TuneSection
from edgetune.train.arguments import count_steps
from edgetune.train.preference.batches import Example, Scored

if TYPE_CHECKING:
    from edgetune.train.tuning_step import Tuning

Write = Callable[..., PreferenceTokens]


class TokenRows(TorchDataset[Example]):
    """Rows that are tokens, some of a file's, with numbers beside them.

    Args:
        file: of :mod:`edgetune.data.preference_tokens`.
        order: numbers of the rows in the file; all in their order where it is ``None``.
        columns: of each row here a number, by name.
    """

    def __init__(
        self, file: Path, order: np.ndarray | None = None,
        columns: Mapping[str, np.ndarray] | None = None,
    ) -> None:  # fmt: skip
        self._rows = Dataset.from_file(str(file))
        self.file = file
        self._order = np.arange(len(self._rows)) if order is None else order
        self._columns = dict(columns or {})

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, number: int) -> Example:
        found: Example = self._rows[int(self._order[number])]
        return {**found, **{name: float(one[number]) for name, one in self._columns.items()}}

    def __iter__(self) -> Iterator[Example]:
        return (self[number] for number in range(len(self)))

    def with_columns(self, columns: Mapping[str, np.ndarray]) -> TokenRows:
        """Return the same rows with these numbers beside them."""
        return TokenRows(self.file, self._order, columns)

    def take(self, count: int | str) -> TokenRows:
        """Return at most so many rows, evenly from all, always the same; ``all`` is all."""
        if count == "all" or len(self) <= int(count):
            return self
        chosen = np.arange(int(count)) * len(self) // int(count)
        columns = {name: values[chosen] for name, values in self._columns.items()}
        return TokenRows(self.file, self._order[chosen], columns)

    @property
    def identity(self) -> str:
        """A hash of the tokens and their order."""
        return f"{hash_file(self.file)} {hashlib.sha256(self._order.tobytes()).hexdigest()}"

    @property
    def order(self) -> np.ndarray:
        """The number of each row in the file, int64 [rows]."""
        return self._order

    def as_dataset(self) -> Dataset:
        """Return the file's rows as TRL's trainers ask for them when they are built."""
        return _Tokens.from_file(str(self.file))


class _Tokens(Dataset):  # type: ignore[misc]
    """Rows that a trainer of TRL would tokenize, and finds tokenized."""

    def map(self, *_: Any, **__: Any) -> Dataset:
        """Return the rows as they are."""
        return self


@dataclass(frozen=True)
class PreferenceSplits:
    """Train and validation rows as tokens."""

    train: PreferenceTokens
    validation: PreferenceTokens

    @property
    def tokens_per_row(self) -> float:
        """Tokens of a train row's answers with their prompts, on average."""
        return float(self.train.facts["tokens"] / max(1, len(self.train)))


def encode_splits(tuning: Tuning, write: Write) -> PreferenceSplits:
    """Encode train and validation rows.

    Args:
        tuning: says rows and encoder.
        write: of :mod:`edgetune.data.preference_tokens`.

    Raises:
        InputError: as ``write`` does, or rows longer than the model's context.
    """
    run = tuning.run
    train = tuning.rows.train if tuning.train is None else tuning.train
    tables = {"train": train, "validation": tuning.rows.validation}
    folder = run.checkpoints.parent
    splits = {
        name: write(
            tuning.encoder, rows, folder / f"{run.role}-{name}.arrow", run.log, name,
            tuning.data.on_bad_row,
        )
        for name, rows in tables.items()
    }  # fmt: skip
    for tokens in splits.values():
        tuning.check_context(tokens.lengths.tolist())
    return PreferenceSplits(**splits)


def seen_rows(tokens: PreferenceTokens, section: TuneSection) -> np.ndarray:
    """Return the numbers of the rows that a training of less than one pass sees, evenly from all.

    Of the others nothing has to be known.
    """
    rows = len(tokens)
    each = section.batch_size * section.gradient_accumulation
    seen = min(rows, count_steps(section, rows) * each)
    chosen: np.ndarray = np.arange(seen) * rows // seen
    return chosen


class ThumbRows(TokenRows):
    """Answers with a thumb in an order that stays, each with another row's answer beside it.

    The mean log ratio of these mismatched answers stands for the KL term of the loss (Ethayarajh et
    al. 2024, arXiv 2402.01306, section 4.1): within each batch, the answers move on by one row.

    Args:
        file: of :mod:`edgetune.data.preference_tokens`.
        order: numbers of the rows in the file.
        batch: rows of a forward pass.
        columns: of each row here a number, by name.
    """

    def __init__(
        self, file: Path, order: np.ndarray, batch: int,
        columns: Mapping[str, np.ndarray] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(file, order, columns)
        self._batch = batch

    def __getitem__(self, number: int) -> Example:
        first = number - number % self._batch
        size = min(self._batch, len(self) - first)
        other = self._rows[int(self._order[first + (number - first - 1) % size])]
        beside = {f"KL_{name}": other[name] for name in ("completion_ids", "completion_mask")}
        return {**super().__getitem__(number), **beside}

    @property
    def identity(self) -> str:
        """A hash of the tokens, their order and the answers beside them."""
        return f"{super().identity} {self._batch}"

    def with_columns(self, columns: Mapping[str, np.ndarray]) -> ThumbRows:
        """Return the same rows with these numbers beside them."""
        return ThumbRows(self.file, self._order, self._batch, columns)


def pair_sequences(row: Example) -> list[Scored]:
    """Return prompt and answer of a pair's chosen and rejected side, with what counts."""
    return [_sequence(row, "chosen"), _sequence(row, "rejected")]


def _sequence(row: Example, side: str) -> Scored:
    prompt: Sequence[int] = row["prompt_ids"]
    return [*prompt, *row[f"{side}_ids"]], [*([0] * len(prompt)), *row[f"{side}_mask"]]


def thumb_sequences(row: Example) -> list[Scored]:
    """Return a row's answer with its prompt and, of :class:`ThumbRows`, the other row's."""
    return [
        _sequence(row, side) for side in ("completion", "KL_completion") if f"{side}_ids" in row
    ]
