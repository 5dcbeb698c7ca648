"""The splits of a dataset that is written: rows, tokens and facts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from edgetune.data.dataset.encoding import fingerprint
from edgetune.data.dataset.tables import RowTable, TokenTable
from edgetune.data.encode import Encoder
from edgetune.data.encode_rows import OnBadRow, Prepared, encode_rows, usable_rows
from edgetune.data.rows import Row
from edgetune.log import Log

FACTS = "dataset.json"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Splits:
    """The rows of a recipe, by split.

    Attributes:
        folder: of the dataset.
        facts: ``format``, ``rows`` and ``sources`` a split, ``skipped`` and its reasons,
            ``columns_unused``, ``parts_unused``, ``duplicates``, ``tokens`` a split, and the
            ``encoder`` that those were made with.
    """

    folder: Path
    facts: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Splits:
        """Map the dataset that ``prepare`` wrote into ``folder``."""
        return cls(folder, json.loads((folder / FACTS).read_text(encoding="utf-8")))

    @cached_property
    def train(self) -> RowTable:
        return RowTable.open(self.folder / "train")

    @cached_property
    def validation(self) -> RowTable:
        return RowTable.open(self.folder / "validation")

    @cached_property
    def test(self) -> RowTable:
        """The test rows; the validation rows themselves where there are no others."""
        if not (self.folder / "test").exists():
            return self.validation
        return RowTable.open(self.folder / "test")

    @property
    def quotable(self) -> Sequence[Row]:
        """The rows of which prompts may be kept beside a model: none if a source is confidential.

        Test rows; which of them are of that source is not known any more.
        """
        return () if self.confidential else self.test

    @property
    def confidential(self) -> bool:
        """Whether a source is confidential, so that no text of a row may be shown."""
        return any(one.get("confidential") for one in self.facts.get("provenance", ()))

    def encode(
        self, split: str, encoder: Encoder, log: Log, on_bad_row: OnBadRow,
        rows: RowTable | None = None,
    ) -> Prepared:  # fmt: skip
        """Return a split's rows as tokens: the dataset's own, where they are of this encoder.

        Args:
            split: name of the split.
            encoder: whose tokens are wanted.
            log: a bar, and what is warned of.
            on_bad_row: whether a row that the encoder refuses is an error.
            rows: some of the split's rows, instead of all.

        Raises:
            InputError: as :func:`edgetune.data.encode_rows.encode_rows`.
        """
        every: RowTable = getattr(self, split)
        chosen = every if rows is None else rows
        if not self.has_tokens(encoder):
            return encode_rows(encoder, chosen, log, split, on_bad_row)
        folder = self.folder / "tokens"
        tokens = TokenTable.open(folder / (split if (folder / split).exists() else "validation"))
        if rows is None:
            return Prepared(every.select(tokens.rows), tokens, self.facts["tokens"][split])
        tokens = tokens.of_rows(rows.numbers)
        known = self.facts["encoder"]
        facts = {**self.facts["tokens"][split], **tokens.measure(known["unknown_id"])}
        return Prepared(RowTable(every.mapped, tokens.rows), tokens, facts)

    def usable(self, split: str, encoder: Encoder, log: Log, on_bad_row: OnBadRow) -> Sequence[Row]:
        """Return the rows of a split that this encoder has a place for.

        Raises:
            InputError: as :func:`edgetune.data.encode_rows.usable_rows`.
        """
        rows: RowTable = getattr(self, split)
        return (
            rows if self.has_tokens(encoder) else usable_rows(encoder, rows, log, split, on_bad_row)
        )

    @property
    def clock(self) -> str | None:
        """The time that the rows' template prints, where it prints one."""
        known = self.facts.get("encoder")
        return known["clock"] if known else None

    def map_rows(self) -> None:
        """Map all files of rows now, so that the folder's names may go."""
        assert self.train is not None and self.validation is not None and self.test is not None

    def has_tokens(self, encoder: Encoder) -> bool:
        """Whether the dataset holds the tokens that this encoder makes of its rows."""
        known = self.facts.get("encoder")
        return known is not None and known["fingerprint"] == fingerprint(encoder)
