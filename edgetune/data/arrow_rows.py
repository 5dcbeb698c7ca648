"""Parquet files and Hugging Face datasets saved to disk to records, a batch at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgetune.data.records import Record, open_bytes
from edgetune.errors import InputError

_BATCH = 1024


def read_parquet(path: Path) -> Iterator[Record]:
    """Yield the rows of a Parquet file; numbers of classes become the names its schema has.

    Raises:
        InputError: not Parquet.
    """
    import pyarrow
    from pyarrow import parquet

    with open_bytes(path) as file:
        try:
            packed = path.suffix.lower() == ".gz"
            opened = parquet.ParquetFile(pyarrow.BufferReader(file.read()) if packed else path)
            names = _class_names(opened.schema_arrow.metadata)
            number = 0
            for batch in opened.iter_batches(batch_size=_BATCH):
                for value in batch.to_pylist():
                    number += 1
                    yield Record(f"{path}: row {number}", _plain(value, names))
        except pyarrow.ArrowException as error:
            raise InputError(f"not Parquet: {error}", where=str(path)) from error


def read_saved(path: Path, split: str | None) -> Iterator[Record]:
    """Yield the rows of a dataset that was saved to disk, or of one split of it.

    Raises:
        InputError: the folder holds no such dataset.
    """
    import datasets

    try:
        saved = datasets.load_from_disk(str(path))
    except Exception as error:  # the library raises many kinds for a folder it cannot read
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"not a dataset saved to disk: {reason}",
            where=str(path),
            hint="name a file, a folder of files, or one made by datasets' save_to_disk",
        ) from error
    if isinstance(saved, datasets.DatasetDict):
        saved = saved[split]
    yield from iterate_rows(saved, f"{path}[{split}]" if split else str(path))


def iterate_rows(dataset: Any, shown: str) -> Iterator[Record]:
    """Yield the rows of a ``datasets.Dataset``; numbers of classes become their names."""
    import datasets

    names = {
        column: list(feature.names)
        for column, feature in dataset.features.items()
        if isinstance(feature, datasets.ClassLabel)
    }
    number = 0
    for batch in dataset.with_format("arrow").iter(_BATCH):
        for value in batch.to_pylist():
            number += 1
            yield Record(f"{shown}: row {number}", _plain(value, names))


def saved_splits(path: Path) -> tuple[str, ...] | None:
    """Return the names of a saved DatasetDict's splits, none for one dataset, else ``None``."""
    index = path / "dataset_dict.json"
    if index.is_file():
        return tuple(json.loads(index.read_text(encoding="utf-8"))["splits"])
    return () if (path / "state.json").is_file() else None


def _class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """The names of each column of classes, as datasets writes them into the schema."""
    try:
        told = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {
            column: list(feature["names"])
            for column, feature in told.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, ValueError, TypeError):
        return {}


def _plain(value: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return a row without the nulls that Arrow puts where an object lacks another's key."""
    row = {key: _pruned(one) if isinstance(one, list | dict) else one for key, one in value.items()}
    for column, known in names.items():
        number = row.get(column)
        if isinstance(number, int):  # -1 stands for a row without a class
            row[column] = known[number] if 0 <= number < len(known) else None
    return row


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _pruned(one) for key, one in value.items() if one is not None}
    return [_pruned(one) for one in value] if isinstance(value, list) else value
