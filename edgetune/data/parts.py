"""The files of one named source, and the splits they hold: folders, patterns, keys of a file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from edgetune.artifact import ENTRY, hash_source
from edgetune.data.arrow_rows import saved_splits
from edgetune.data.documents.read import DOCUMENTS
from edgetune.data.hub_rows import find_commit, find_hub_id, load_hub
from edgetune.data.json_rows import list_parts
from edgetune.errors import InputError, nearest
from edgetune.models.resolve import resolve_data
from edgetune.recipe import DataSource

SPLITS = ("train", "validation", "test")
_SPLIT_WORDS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "eval": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
# Where rows are wanted that are no split of a run: which split stands for them.
_STANDS_FOR = {"prompts": ("train",), "data": ("test", "validation", "train")}
JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
ENDINGS = (*JSON_ENDINGS, ".csv", ".tsv", ".parquet", ".txt", *DOCUMENTS)
ROWS = "rows.jsonl"  # the accepted rows in an artifact of synthetic rows
SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Piece:
    """A file, or one part of it: a key of a JSON object, a split of a saved dataset.

    Attributes:
        path: the file, or the folder of a saved dataset.
        key: the part.
        source: what the recipe says of the source that it belongs to.
        number: the place of that source in the recipe's list.
        commit: of a dataset on the hub, whose id is the path.
        chunked: whether its texts are going to be chunked: then a text file is one text.
    """

    path: Path
    key: str | None = None
    source: DataSource = field(default=DataSource.model_construct(path=""), compare=False)
    number: int = field(default=0, compare=False)
    commit: str | None = None
    chunked: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"{self.path}[{self.key}]" if self.key else str(self.path)

    @property
    def name(self) -> str:
        """The file's name without its folders, with the part."""
        return f"{self.path.name}[{self.key}]" if self.key else self.path.name


def ending_of(path: Path) -> str:
    """Return a file's ending in small letters, without ``.gz``."""
    endings = [ending.lower() for ending in path.suffixes]
    return endings[-2] if endings[-1:] == [".gz"] and len(endings) > 1 else "".join(endings[-1:])


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Return what sorts part-2 before part-10."""
    return [
        (int(one), "") if one.isdecimal() else (-1, one)
        for one in re.split(r"(\d+)", path.as_posix())
    ]


def pick_pieces(source: DataSource, split: str, exactly: bool = False) -> tuple[Piece, ...]:
    """Return the pieces of a source that belong to ``split``.

    With ``exactly`` only those that say so; else a file that is not divided, or in one part, is all
    of it.

    Raises:
        InputError: no such file, nothing readable in it, or no such split.
    """
    every = _all_parts(source)
    return tuple(p for parts in every for p in _pick(parts, source, split, exactly))


def all_pieces(source: DataSource) -> tuple[Piece, ...]:
    """Return the pieces of all of a source's splits."""
    return tuple(p for parts in _all_parts(source) for pieces in parts.values() for p in pieces)


def _all_parts(source: DataSource) -> list[dict[str, list[Piece]]]:
    """Return the parts of each file and folder of a source, or those of a dataset on the hub."""
    if find_hub_id(source.path) is None:
        for key in ("config", "revision"):
            if getattr(source, key) is not None:
                raise InputError(
                    f"{key} is of a dataset on the hub, and this is a path", where=source.path,
                    hint="leave it out, or write hf:owner/name",
                )  # fmt: skip
        return [_parts(path) for path in resolve_paths(source)]
    commit, splits = find_commit(source), load_hub(source)
    return [{name: [Piece(Path(commit.id), name, commit=commit.sha)] for name in splits}]


def hash_places(source: DataSource) -> list[str]:
    """Return the content hash of each file and folder of a source; the hub's commit of a dataset.

    Raises:
        InputError: there is none, or the hub cannot be reached.
    """
    if find_hub_id(source.path) is None:
        return [hash_source(path) for path in resolve_paths(source)]
    commit = find_commit(source)
    return [f"hub:{commit.id}@{commit.sha}"]


def resolve_paths(source: DataSource) -> list[Path]:
    """Return the files and folders that a source's path names.

    Raises:
        InputError: there is none.
    """
    name = source.path
    if name.startswith("sqlite:"):
        if source.query is None:
            raise InputError(
                "a SQLite file is read by a query", where=name,
                hint=f"write {{path: '{name}', query: 'SELECT … FROM …'}}",
            )  # fmt: skip
        return [resolve_data(name.removeprefix(SQLITE).removeprefix("sqlite:"))]
    if name.startswith("embedded:") or Path(name).exists() or not re.search(r"[*?\[]", name):
        return [resolve_data(name)]
    base = Path(name).anchor
    pattern = str(Path(name).relative_to(base)) if base else name
    found = sorted((p for p in Path(base or ".").glob(pattern)), key=natural_key)
    if not found:
        raise InputError("no file matches this pattern", where=name)
    return found


def _pick(
    parts: dict[str, list[Piece]], source: DataSource, split: str, exactly: bool
) -> Iterable[Piece]:
    if source.split is not None:
        if source.split not in parts or not source.split:
            raise InputError(
                f"no split '{source.split}'{nearest(source.split, parts)}",
                where=source.path,
                hint=f"it has {', '.join(filter(None, parts)) or 'no splits'}",
            )
        return () if exactly else parts[source.split]
    by_split: dict[str, list[Piece]] = {}
    for key, pieces in parts.items():
        by_split.setdefault(_SPLIT_WORDS.get(key.lower(), key), []).extend(pieces)
    for name in (split, *_STANDS_FOR.get(split, ())):
        if name in by_split:
            return by_split[name]
    if exactly:
        return ()
    if len(by_split) == 1:
        return next(iter(by_split.values()))
    raise InputError(
        f"the data has no split '{split}' (it has {', '.join(parts)})",
        where=source.path,
        hint="name the file of each split in the recipe, or one with {path: …, split: …}",
    )


def is_synthetic(source: DataSource) -> bool:
    """Whether a source is what `edgetune synthesize` made."""
    folder = Path(source.path)
    return (folder / ENTRY).is_file() and (folder / ROWS).is_file()


def _parts(path: Path) -> dict[str, list[Piece]]:
    """Return the pieces of a file or folder by the name of their part; ``""`` for all of it."""
    if path.is_file():
        keys = list_parts(path).keys if ending_of(path) in JSON_ENDINGS else ()
        return {key: [Piece(path, key)] for key in keys} or {"": [Piece(path)]}
    if (path / ENTRY).is_file() and (path / ROWS).is_file():
        return {"": [Piece(path / ROWS)]}  # what `edgetune synthesize` made
    splits = saved_splits(path)
    if splits is not None:
        return {name: [Piece(path, name)] for name in splits} or {"": [Piece(path)]}
    return _shards(path)


def _shards(folder: Path) -> dict[str, list[Piece]]:
    """Return a folder's data files by the split that their names, or their folders', say.

    Raises:
        InputError: no data files, or files of several kinds.
    """
    files = [
        file
        for file in sorted(folder.rglob("*"), key=natural_key)
        if file.is_file()
        and ending_of(file) in ENDINGS
        and not any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
    ]
    if files and all(_is_prose(file) for file in files):
        return _collect(files)
    parts: dict[str, list[Piece]] = {}
    for file in files:
        words = re.split(r"[^a-z]+", file.relative_to(folder).as_posix().lower())
        found = dict.fromkeys(_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS)
        split = "" if ending_of(file) in DOCUMENTS else next(iter(found), "")
        parts.setdefault(split, []).append(Piece(file))
    rest = parts.pop("", [])
    if parts:
        return {**parts, **{piece.name: [piece] for piece in rest}}
    # Notes (README.txt) lie beside data of any other kind.
    shards = [piece for piece in rest if not _is_prose(piece.path)]
    notes = {piece.name: [piece] for piece in rest if piece not in shards}
    kinds = {"JSON" if ending_of(p.path) in JSON_ENDINGS else ending_of(p.path) for p in shards}
    if not shards or len(kinds) > 1:
        what = f"files of several kinds: {', '.join(sorted(kinds))}" if shards else "no data files"
        raise InputError(
            f"the folder holds {what}",
            where=str(folder),
            hint=f"name them: {folder}/*.jsonl, say (known: {' '.join(ENDINGS)}, also .gz), "
            "or a folder made by datasets' save_to_disk",
        )
    return {"train": shards, **notes} if notes else {"": shards}


def _is_prose(path: Path) -> bool:
    return ending_of(path) in (".txt", *DOCUMENTS)


def _collect(files: list[Path]) -> dict[str, list[Piece]]:
    """Return the parts of a folder of texts and documents, whose names say nothing of splits.

    A README beside plain texts says what they are.
    """
    texts = any(ending_of(file) == ".txt" for file in files)
    notes = [file for file in files if texts and file.stem.lower() == "readme"]
    notes = notes if len(notes) < len(files) else []
    parts = {"train" if notes else "": [Piece(file) for file in files if file not in notes]}
    return {**parts, **{file.name: [Piece(file)] for file in notes}}
