"""Arrow files in the layout of :func:`datasets.load_from_disk`, written in order, read mapped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from edgetune.artifact import hash_file

_DATA = "data-00000-of-00001.arrow"


class ArrowWriter:
    """Writes tables of one schema into a folder, one after the other.

    The same tables give the same bytes. Leaving the context without an error completes the folder.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._file = pa.OSFile(str(folder / _DATA), "wb")
        self._stream = pa.ipc.new_stream(self._file, schema)

    def write(self, table: pa.Table) -> None:
        """Append a table, as one batch."""
        if table.num_rows:
            batch = table.combine_chunks().to_batches()[0]
            self._stream.write_batch(batch)

    def __enter__(self) -> ArrowWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._stream.close()
        self._file.close()
        if kind is None:
            _write_descriptions(self._folder)


def _write_descriptions(folder: Path) -> None:
    """Write the two files that tell ``datasets`` what lies in the folder.

    Its fingerprint, by which ``datasets`` caches what is computed from it, is of the content.
    """
    state: dict[str, Any] = {
        "_data_files": [{"filename": _DATA}],
        "_fingerprint": hash_file(folder / _DATA)[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    info = {"citation": "", "description": "", "homepage": "", "license": ""}
    for name, content in (("state.json", state), ("dataset_info.json", info)):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_splits_index(folder: Path, names: Sequence[str]) -> None:
    """Tell ``datasets`` which splits lie in ``folder``."""
    text = json.dumps({"splits": list(names)})
    (folder / "dataset_dict.json").write_text(text + "\n", encoding="utf-8")


class MappedTable:
    """A table whose batches stay on the disk until they are read."""

    def __init__(self, path: Path) -> None:
        """Map the stream file ``path``, or the one in the folder of an :class:`ArrowWriter`."""
        file = path / _DATA if path.is_dir() else path
        self.table: pa.Table = pa.ipc.open_stream(pa.memory_map(str(file))).read_all()
        self._batches = self.table.to_batches()
        self._starts = np.cumsum([0, *(len(batch) for batch in self._batches)])

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def take(self, numbers: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
        """Return rows as Python values, in the order of ``numbers``."""
        numbers = np.asarray(numbers, dtype=np.int64)
        places = np.searchsorted(self._starts, numbers, side="right") - 1
        found: list[dict[str, Any]] = []
        edges = np.flatnonzero(np.diff(places)) + 1
        for some in np.split(np.arange(len(numbers)), edges):
            if len(some):
                place = int(places[some[0]])
                local = numbers[some] - self._starts[place]
                found += self._batches[place].take(pa.array(local)).to_pylist()
        return found

    def numbers(self, column: str) -> np.ndarray:
        """Return a column of numbers as one array."""
        parts = [batch.column(column).to_numpy(zero_copy_only=False) for batch in self._batches]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def lists(self, column: str) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        """Return a column of lists without a copy of its values.

        Returns:
            The number of each batch's first row, and for each batch the ends of its lists (one
            more than rows; the first is where the batch begins) and their values.
        """
        parts = []
        for batch in self._batches:
            lists = batch.column(column)
            parts.append((lists.offsets.to_numpy(), lists.values.to_numpy()))
        return self._starts, parts
