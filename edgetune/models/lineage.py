"""The weights that an adapter belongs to, written into its file and checked before it is merged.

A lineage is the fingerprint of the first weights, followed by ``+`` and the fingerprint of each
adapter merged since. An adapter carries the lineage of what it was trained on; merged weights
carry their own. So an adapter of another base, one that is in already, and a second one out of
order are told apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from edgetune.errors import InputError
from edgetune.models.checkpoint import Checkpoint

ADAPTER = "adapter_model.safetensors"
KEY = "edgetune.lineage"  # in the metadata of the first safetensors file
_SAMPLE = 4096  # bytes read at both ends of each tensor: enough to tell two trainings apart


def fingerprint(files: Sequence[Path]) -> str:
    """Hash the names, shapes and both ends of every tensor in some safetensors files.

    Reads a few kilobytes per tensor, so a model of 16 GB takes seconds, not minutes.
    """
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size))
            for name in sorted(header):
                if name == "__metadata__":
                    continue
                entry = header[name]
                begin, end = entry["data_offsets"]
                digest.update(f"{name} {entry['dtype']} {entry['shape']}".encode())
                for at in (begin, max(begin, end - _SAMPLE)):
                    stream.seek(8 + size + at)
                    digest.update(stream.read(min(_SAMPLE, end - at)))
    return digest.hexdigest()[:32]


def read_metadata(folder: Path) -> dict[str, str]:
    """Return the metadata of an adapter's file; empty where there is none."""
    path = folder / ADAPTER
    if not path.is_file():
        return {}
    try:
        with path.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        return {str(key): str(value) for key, value in header["__metadata__"].items()}
    except (ValueError, KeyError, AttributeError, TypeError, MemoryError, OverflowError):
        return {}


def fingerprint_adapter(folder: Path) -> str:
    """Return the fingerprint of an adapter's tensors."""
    return fingerprint([folder / ADAPTER])


def read_stamp(files: Sequence[Path]) -> str | None:
    """Return the lineage written into weights or an adapter, if there is one."""
    for file in files:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size))
        stamp = header.get("__metadata__", {}).get(KEY)
        if stamp:
            return str(stamp)
    return None


def lineage_of(folder: Path) -> str:
    """Return the lineage of a model folder: its stamp, or the fingerprint of foreign weights."""
    files = Checkpoint(folder).files
    return read_stamp(files) or fingerprint(files)


def stamp_adapter(folder: Path, base: Path, extra: dict[str, str] | None = None) -> None:
    """Write into an adapter the lineage of the weights it was trained on, and what ``extra`` says.

    The header is written here, because safetensors puts metadata in an order that changes from
    process to process, and the same training has to give the same bytes.
    """
    path = folder / ADAPTER
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    stamps = {KEY: lineage_of(base), **(extra or {})}
    header["__metadata__"] = {**header.get("__metadata__", {}), **stamps}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    part = path.with_name(path.name + ".part")  # the old file may be mapped into memory
    part.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])
    part.replace(path)


def check_lineage(adapter: Path, lineage: str) -> None:
    """Refuse to merge an adapter into weights other than those it was trained on.

    An adapter without a stamp, made by another tool, is taken at its word.

    Raises:
        InputError: another base, an adapter that is in already, or one out of order.
    """
    wanted = read_stamp([adapter / ADAPTER])
    if fingerprint_adapter(adapter) in lineage.split("+")[1:]:
        raise InputError(
            "this adapter is folded into these weights already",
            where=str(adapter),
            hint="give the base, not the merged model",
        )
    if wanted is None or wanted == lineage:
        return
    if wanted.split("+")[0] == lineage.split("+")[0]:
        raise InputError(
            "this adapter was trained on the same base with other adapters folded in",
            where=str(adapter),
            hint="name the adapters in the order they were trained",
        )
    raise InputError(
        "this adapter was trained on another base: its fingerprint is "
        f"{wanted.split('+')[0][:12]}, this one's {lineage.split('+')[0][:12]}",
        where=str(adapter),
        hint="use the base the adapter was trained on",
    )
