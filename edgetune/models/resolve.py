"""Find a model on disk, and refuse what cannot be trained or shipped before any work."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgetune import embedded
from edgetune.artifact import ENTRY, load_artifact
from edgetune.errors import InputError
from edgetune.models.ref import ModelRef
from edgetune.naming import HUB_ID, is_hub_id

_MAX_HEADER = 50_000_000  # bytes; a header takes about 150 a tensor
_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8,
    "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "C64": 64,
}  # fmt: skip
_WANTED = [  # of a hub id
    "*.json", "*.safetensors", "tokenizer.model", "*.jinja", "*.txt", "README.md", "LICENSE*",
]  # fmt: skip
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def resolve_model(path: str, revision: str | None = None) -> Path:
    """Return the folder of a model: a folder, ``embedded:NAME``, or a hub id.

    What `edgetune merge` made is taken as the model in it. Only a hub id that is named and is no
    folder here reaches for the network.

    Raises:
        InputError: nothing there, no network, or something else than a model; it says what.
    """
    if path.startswith("embedded:"):
        return _embedded(path)
    folder = Path(path)
    try:
        if folder.is_dir():
            return _inside(folder)
        if folder.is_file():
            raise _explain_file(folder)
    except (OSError, ValueError) as error:  # no permission, a name too long, a NUL
        raise InputError(f"no such model folder: {error}", where=path[:200]) from error
    if not HUB_ID.match(path):
        raise InputError("no such model folder", where=path, hint="name a folder or a hub id")
    return _download(path, revision)


def _inside(folder: Path) -> Path:
    """Return a model's folder, or the one inside of what merge made; refuse what is neither."""
    if (folder / "config.json").is_file():
        return folder
    if (folder / ENTRY).is_file():
        artifact = load_artifact(folder)
        if artifact.kind == "model":
            return artifact.model_folder
        takes = {
            "adapter": "fold it in first: edgetune merge --adapter " + str(folder),
            "student": "fold it in first: edgetune merge --adapter " + str(folder),
            "files": "name its files to edgetune bench or verify; a --model has safetensors",
        }
        raise InputError(
            f"this is what `edgetune {artifact.stage}` made ({artifact.kind}), not a model folder",
            where=str(folder),
            hint=takes.get(artifact.kind, "name the model that it was made of"),
        )
    if (folder / "adapter_config.json").is_file():
        base = read_json(folder / "adapter_config.json", "").get("base_model_name_or_path")
        raise InputError(
            "this is a LoRA adapter, not a model",
            where=str(folder),
            hint=f"name its base as --model{f' ({base})' if base else ''}, and fold it in with "
            f"edgetune merge --adapter {folder}",
        )
    if (folder / "genai_config.json").is_file() or any(folder.glob("**/*.onnx")):
        raise InputError(
            "this is an ONNX folder, not a model folder with safetensors",
            where=str(folder),
            hint="name the Hugging Face folder it was made from; bench and verify take it as it is",
        )
    ggufs = sorted(folder.glob("*.gguf"))
    if ggufs:
        raise _explain_file(ggufs[0])
    return folder


def _explain_file(path: Path) -> InputError:
    """Return what a file is that was named as a model."""
    what, hint = "this is a file, not a model folder", "name the folder with its config.json"
    with path.open("rb") as file:
        if file.read(4) == b"GGUF":
            what = "this is a GGUF file; a --model is a Hugging Face folder with safetensors"
            hint = "name the folder it was made from; bench, verify and --teacher take GGUF files"
    if path.name.endswith((".safetensors", "config.json")) and path.parent != Path("."):
        hint = f"name the folder it lies in: {path.parent}"
    return InputError(what, where=str(path), hint=hint)


def find_local(path: str, revision: str | None = None) -> Path | None:
    """Return where a model or data lies on this machine, a hub id in its cache; else nothing."""
    try:
        if not is_hub_id(path):
            return resolve_data(path)
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(path, revision=revision, local_files_only=True))
    except (InputError, OSError, ValueError):  # the hub client's own kinds are OSErrors
        return None


def resolve_data(path: str) -> Path:
    """Return the path of a data file or folder, or of an ``embedded:`` one."""
    found = _embedded(path) if path.startswith("embedded:") else Path(path)
    if not found.exists():
        raise InputError("no such data file", where=path)
    return found


def resolve_adapter(folder: Path) -> Path:
    """Return the PEFT folder of an adapter: itself, or the one inside a tune artifact.

    Raises:
        InputError: nothing of the kind.
    """
    found = folder
    if (folder / ENTRY).is_file():
        model = load_artifact(folder).facts.get("model")
        found = (ModelRef.from_json(model, folder).adapter if model else None) or folder
    if not (found / "adapter_config.json").is_file():
        raise InputError(
            "no adapter here: neither an artifact of `edgetune tune` nor a PEFT folder",
            where=str(folder),
            hint="a PEFT folder holds adapter_config.json and adapter_model.safetensors",
        )
    return found


def check_safetensors(file: Path) -> None:
    """Refuse a file whose header does not describe exactly the bytes that follow it.

    Raises:
        InputError: it names the tensor, or the byte.
    """
    with _whole(file):
        length, header = _parse_header(file)
        end = 0
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            end = _check_entry(name, entry, end)
        size, expected = file.stat().st_size, 8 + length + end
        if expected != size:
            raise ValueError(f"the header describes {expected} bytes, the file has {size}")


def read_header(file: Path) -> dict[str, dict[str, Any]]:
    """Return what a safetensors file says of each tensor: ``dtype``, ``shape``, ``data_offsets``.

    Raises:
        InputError: no safetensors file, or one of which too little is there.
    """
    with _whole(file):
        return _parse_header(file)[1]


def _parse_header(file: Path) -> tuple[int, dict[str, Any]]:
    """Return the bytes of a header and its tensors.

    The format: 8 bytes of header length, a JSON header, the tensors without a gap
    (https://github.com/huggingface/safetensors#format).
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise ValueError(f"a header of {length} bytes at byte 0, in a file of {size}")
        header = parse_json(stream.read(length).decode("utf-8"))
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    header.pop("__metadata__", None)
    return length, header


@contextmanager
def _whole(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"not a whole safetensors file: {error}", where=str(file), hint="copy it again"
        ) from error


def _check_entry(name: str, entry: dict[str, Any], begin: int) -> int:
    """Return where a tensor ends that must begin at ``begin``, as the format wants it."""
    first, end = entry["data_offsets"]
    shape, bits = entry["shape"], _BITS.get(entry["dtype"])
    label = f"tensor '{name[:64]}'"
    if bits is None:
        raise ValueError(f"{label} has the unknown type {entry['dtype']!r}")
    if not all(isinstance(one, int) and one >= 0 for one in [first, end, *shape]):
        raise ValueError(f"{label} has the shape {shape} at {first}:{end}")
    if first != begin or (end - first) * 8 != math.prod(shape) * bits:
        raise ValueError(
            f"{label}, {entry['dtype']} of shape {shape}, lies at bytes {first} to {end} of the "
            f"data; it should begin at {begin} and have {math.prod(shape) * bits // 8} bytes"
        )
    return int(end)


def parse_json(text: str) -> Any:
    """Parse JSON; a duplicate key is an error, as parsers disagree on it.

    Raises:
        ValueError: no JSON, or a key twice.
        RecursionError: nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_refuse_twins)


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twin = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twin[:64]!r} occurs twice")
    return found


def read_json(path: Path, hint: str) -> dict[str, Any]:
    """Read a JSON object, or say what is wrong with the file."""
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError("no such file", where=str(path), hint=hint) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"not readable as JSON: {error}", where=str(path), hint=hint) from error
    if not isinstance(value, dict):
        raise InputError("not a JSON object", where=str(path), hint=hint)
    return value


def _embedded(path: str) -> Path:
    try:
        return embedded.locate(path.removeprefix("embedded:"))
    except FileNotFoundError as error:
        raise InputError(str(error), where=path) from error


def _download(hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=_WANTED))
    except Exception as error:  # the hub client raises a dozen unrelated kinds
        raise InputError(
            f"cannot get this model from the hub: {type(error).__name__}: {error}",
            where=hub_id,
            hint="check the id and the network, or name a folder",
        ) from error
