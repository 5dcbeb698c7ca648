"""Datasets of the Hugging Face hub: the commit that a name means, and its rows, from the cache."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgetune.errors import InputError, raise_machine_fault
from edgetune.naming import HUB_ID
from edgetune.recipe import DataSource

PREFIX = "hf:"


@dataclass(frozen=True)
class HubCommit:
    """A dataset of the hub at one commit, with the licence that its card states."""

    id: str
    sha: str
    license: str | None


def find_hub_id(path: str) -> str | None:
    """Return the hub id that a source's path is, or ``None`` where it is a path here.

    ``hf:owner/name`` is one always; ``owner/name`` where nothing lies there, and it has no ending
    of a file.
    """
    if path.startswith(PREFIX):
        return path.removeprefix(PREFIX)
    if path.startswith("embedded:") or not HUB_ID.match(path) or Path(path).exists():
        return None
    return None if re.search(r"\.[A-Za-z]\w{0,7}$", path) else path


def find_commit(source: DataSource) -> HubCommit:
    """Return the commit that a source on the hub means now; offline, that of the last time.

    Raises:
        InputError: no such dataset or revision, or no hub in reach and none in the cache.
    """
    return _find_commit(str(find_hub_id(source.path)), source.revision)


@lru_cache(maxsize=64)
def _find_commit(id: str, revision: str | None) -> HubCommit:
    from huggingface_hub import DatasetCard, snapshot_download
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with _reaching(id):
            wanted = ["README.md", ".gitattributes"]
            folder = Path(
                snapshot_download(id, repo_type="dataset", revision=revision, allow_patterns=wanted)
            )
    finally:
        if shown:
            enable_progress_bars()
    license = None
    card = folder / "README.md"
    if card.is_file():
        try:
            license = DatasetCard.load(card, ignore_metadata_errors=True).data.license
        except ValueError:  # a card whose head is no YAML states no licence
            license = None
    return HubCommit(id, folder.name, str(license) if license else None)


def load_hub(source: DataSource) -> Any:
    """Return the splits of a dataset on the hub, a DatasetDict, memory-mapped from the cache.

    Raises:
        InputError: as :func:`find_commit`; no such configuration, or nothing readable in it.
    """
    commit = find_commit(source)
    return _load(commit.id, source.config, commit.sha)


@lru_cache(maxsize=8)
def _load(id: str, config: str | None, sha: str) -> Any:
    import datasets

    datasets.disable_progress_bars()
    with _reaching(id):
        found = datasets.load_dataset(id, name=config, revision=sha)
    cached = {Path(f["filename"]).parent.name for one in found.values() for f in one.cache_files}
    if cached - {sha}:  # without the hub, the library takes the latest commit that it has
        raise InputError(
            f"without the hub, datasets opens the commit {', '.join(cached)} and not {sha}",
            where=f"{PREFIX}{id}",
            hint="let the hub be reached, or name that commit as the source's revision",
        )
    return found


@contextmanager
def _reaching(id: str) -> Iterator[None]:
    """Say what the hub's client or the library raises; they raise dozens of unrelated kinds."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise_machine_fault(error, id)
        said = (str(error).strip().splitlines() or [""])[0]
        hint = "check the id, revision, config and the network; a path here needs to exist"
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
            hint = "HF_HUB_OFFLINE is set and the cache lacks it: unset that, or name a file"
        raise InputError(
            f"cannot get this dataset: {type(error).__name__}: {said[:300]}",
            where=f"{PREFIX}{id}",
            hint=hint,
        ) from error
