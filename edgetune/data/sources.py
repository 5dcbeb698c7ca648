"""What a recipe names as data: files, folders of shards, patterns and lists, and their splits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgetune.data.parts import SPLITS, Piece, all_pieces, hash_places, pick_pieces
from edgetune.errors import InputError
from edgetune.recipe import DataSection, DataSource, list_sources

Named = str | DataSource | Sequence[str | DataSource]


@dataclass(frozen=True)
class Source:
    """Where a split's rows come from.

    Attributes:
        shown: what the recipe names.
        pieces: files and parts of files, in order, each with what the recipe says of its source.
        unused: parts and files beside them that no split takes.
    """

    shown: str
    pieces: tuple[Piece, ...]
    unused: tuple[str, ...] = ()

    def __str__(self) -> str:
        count = len(self.pieces)
        return str(self.pieces[0]) if count == 1 else f"{self.shown} ({count} files)"

    @property
    def named(self) -> tuple[tuple[DataSource, Source], ...]:
        """Each of the sources that the recipe lists, with its pieces."""
        groups: dict[int, list[Piece]] = {}
        for piece in self.pieces:
            groups.setdefault(piece.number, []).append(piece)
        return tuple(
            (pieces[0].source, Source(pieces[0].source.path, tuple(pieces)))
            for pieces in groups.values()
        )


def find_sources(section: DataSection) -> dict[str, Source]:
    """Return the source of each split that has one of its own.

    Where the train source comes in splits (by keys, file names or a saved dataset), those that the
    recipe does not name are taken from it.

    Raises:
        InputError: no such file, or nothing readable in it.
    """
    named = {name: getattr(section, name) for name in SPLITS if getattr(section, name) is not None}
    chunked = section.chunk is not None
    sources = {name: open_source(value, name, chunked) for name, value in named.items()}
    for name in SPLITS[1:]:
        if name not in named:
            pieces = _pieces(section.train, name, chunked, exactly=True)
            if pieces:
                sources[name] = Source(_shown(section.train), pieces)
    taken = {piece for source in sources.values() for piece in source.pieces}
    every = [piece for one in list_sources(section.train) for piece in all_pieces(one)]
    left = tuple(piece.name for piece in dict.fromkeys(every) if piece not in taken)
    sources["train"] = replace(sources["train"], unused=left)
    return sources


def open_source(names: Named, split: str, chunked: bool = False) -> Source:
    """Return the pieces of what is named that belong to ``split``.

    Where texts are going to be chunked, a text file is one text.

    Raises:
        InputError: no such file, an unknown ending, or no such split.
    """
    pieces = _pieces(names, split, chunked)
    if not pieces:
        raise InputError("no file is named", where=f"data.{split}")
    return Source(_shown(names), pieces)


def hash_sources(names: Named) -> str:
    """Hash the contents of what is named; the hash of a file alone is the file's.

    A dataset on the hub is known by its commit.
    """
    hashes = [one for source in list_sources(names) for one in hash_places(source)]
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def narrow(section: DataSection, source: DataSource) -> DataSection:
    """Return the section as it holds for one source, which may have a format of its own."""
    own = {"format": source.format, "columns": source.columns}
    if source.columns is not None and source.format is None:
        own["format"] = "columns"
    elif source.format not in (None, "auto", "columns") and source.columns is None:
        return section.model_copy(update={"format": source.format, "columns": None})
    return section.model_copy(update={k: v for k, v in own.items() if v is not None})


def _pieces(names: Named, split: str, chunked: bool, exactly: bool = False) -> tuple[Piece, ...]:
    return tuple(
        replace(piece, source=source, number=number, chunked=chunked)
        for number, source in enumerate(list_sources(names))
        for piece in pick_pieces(source, split, exactly)
    )


def _shown(names: Named) -> str:
    return ", ".join(source.path for source in list_sources(names))
