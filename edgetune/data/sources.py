"""What a recipe names as data: files, folders of shards, patterns and lists, and their splits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgetune.artifact import hash_source
from edgetune.data.arrow_rows import saved_splits
from edgetune.data.json_rows import list_parts
from edgetune.errors import InputError
from edgetune.models.resolve import resolve_data
from edgetune.recipe import DataSection

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
ENDINGS = (*JSON_ENDINGS, ".csv", ".tsv", ".parquet", ".txt")


@dataclass(frozen=True)
class Piece:
    """A file, or one part of it: a key of a JSON object, a split of a saved dataset."""

    path: Path
    key: str | None = None


@dataclass(frozen=True)
class Source:
    """Where a split's rows come from.

    Attributes:
        shown: what the recipe names.
        pieces: files and parts of files, in order.
        unused: parts and files beside them that no split takes.
    """

    shown: str
    pieces: tuple[Piece, ...]
    unused: tuple[str, ...] = ()

    def __str__(self) -> str:
        count = len(self.pieces)
        if count == 1:
            piece = self.pieces[0]
            return f"{piece.path}[{piece.key}]" if piece.key else str(piece.path)
        return f"{self.shown} ({count} files)"


def find_sources(section: DataSection) -> dict[str, Source]:
    """Return the source of each split that has one of its own.

    Where the train source comes in splits (by keys, file names or a saved dataset), those that the
    recipe does not name are taken from it.

    Raises:
        InputError: no such file, or nothing readable in it.
    """
    named = {name: getattr(section, name) for name in SPLITS if getattr(section, name) is not None}
    sources = {name: open_source(value, name) for name, value in named.items()}
    for name in SPLITS[1:]:
        if name not in named:
            pieces = _pieces(section.train, name, exactly=True)
            if pieces:
                sources[name] = Source(_shown(section.train), pieces)
    taken = {piece for source in sources.values() for piece in source.pieces}
    unused = [p for path in _resolve(section.train) for ps in _parts(path).values() for p in ps]
    left = tuple(_name(piece) for piece in dict.fromkeys(unused) if piece not in taken)
    train = sources["train"]
    sources["train"] = Source(train.shown, train.pieces, left)
    return sources


def open_source(names: str | Sequence[str], split: str) -> Source:
    """Return the pieces of what is named that belong to ``split``.

    Raises:
        InputError: no such file, an unknown ending, or no such split.
    """
    pieces = _pieces(names, split)
    if not pieces:
        raise InputError("no file is named", where=f"data.{split}")
    return Source(_shown(names), pieces)


def hash_sources(names: str | Sequence[str]) -> str:
    """Hash the contents of what is named; the hash of a file alone is the file's."""
    paths = _resolve(names)
    if len(paths) == 1:
        return hash_source(paths[0])
    return hashlib.sha256("\n".join(map(hash_source, paths)).encode()).hexdigest()


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


def _pieces(names: str | Sequence[str], split: str, exactly: bool = False) -> tuple[Piece, ...]:
    return tuple(p for path in _resolve(names) for p in _pick(path, split, exactly))


def _pick(path: Path, split: str, exactly: bool) -> Iterable[Piece]:
    """Return the pieces of ``split``; a file that is not divided, or in one part, is all of it."""
    parts = _parts(path)
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
        where=str(path),
        hint="name the file of each split in the recipe",
    )


def _parts(path: Path) -> dict[str, list[Piece]]:
    """Return the pieces of a file or folder by the name of their part; ``""`` for all of it."""
    if path.is_file():
        keys = list_parts(path).keys if ending_of(path) in JSON_ENDINGS else ()
        return {key: [Piece(path, key)] for key in keys} or {"": [Piece(path)]}
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
    parts: dict[str, list[Piece]] = {}
    for file in files:
        words = re.split(r"[^a-z]+", file.relative_to(folder).as_posix().lower())
        found = dict.fromkeys(_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS)
        parts.setdefault(next(iter(found), ""), []).append(Piece(file))
    rest = parts.pop("", [])
    if parts:
        return {**parts, **{_name(piece): [piece] for piece in rest}}
    # Notes (README.txt) lie beside data of any other kind.
    shards = [piece for piece in rest if ending_of(piece.path) != ".txt"] or rest
    notes = {_name(piece): [piece] for piece in rest if piece not in shards}
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


def _resolve(names: str | Sequence[str]) -> list[Path]:
    paths: list[Path] = []
    for name in [names] if isinstance(names, str) else names:
        if name.startswith("embedded:") or Path(name).exists() or not re.search(r"[*?\[]", name):
            paths.append(resolve_data(name))
            continue
        base = Path(name).anchor
        pattern = str(Path(name).relative_to(base)) if base else name
        found = sorted((p for p in Path(base or ".").glob(pattern)), key=natural_key)
        if not found:
            raise InputError("no file matches this pattern", where=name)
        paths += found
    return paths


def _name(piece: Piece) -> str:
    return f"{piece.path.name}[{piece.key}]" if piece.key else piece.path.name


def _shown(names: str | Sequence[str]) -> str:
    return names if isinstance(names, str) else ", ".join(names)
