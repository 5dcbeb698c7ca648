"""Models and files of any tool as artifacts, so that every stage works on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from edgetune.artifact import ENTRY, Artifact, hash_source, load_artifact, verify_artifact
from edgetune.errors import InputError


def adopt_adapter(path: Path, base: str | None, earlier: Iterable[Path] = ()) -> Artifact:
    """Return the artifact of `tune` or `distill` in ``path``, or a PEFT adapter as the same.

    Args:
        path: folder of the artifact, or of the adapter.
        base: model that a PEFT adapter was trained over; an artifact knows its own.
        earlier: adapters that were merged into the base before this one was trained, in order.

    Raises:
        InputError: no such adapter, a damaged artifact, or a PEFT adapter without a base.
    """
    below = tuple(earlier)
    if (path / ENTRY).exists() and not below:
        return open_artifact(path)
    from edgetune.models.ref import ModelRef
    from edgetune.models.resolve import resolve_adapter, resolve_model

    adapters = [resolve_adapter(adapter) for adapter in (*below, path)]
    if not base:
        raise InputError(
            "--model is missing", where="command line", hint="a PEFT adapter needs its base"
        )
    model = resolve_model(base)
    *first, last = [adapter.resolve() for adapter in adapters]
    facts = {
        "model": ModelRef(model.resolve(), last).to_json(path),
        "earlier": [str(adapter) for adapter in first],
        "foreign": True,  # what they were trained over is still to be found out
        "compute_dtype": "float32",
        "contract": str(_tokenizer_of(last) or model.resolve()),
    }
    key = " ".join(hash_source(folder) for folder in (model, *adapters))
    return Artifact(path.resolve(), "adapter", "tune", key, facts=facts)


def adopt_model(path: str) -> Artifact:
    """Return the artifact of `merge` in ``path``, or a Hugging Face folder or hub id as the same.

    Raises:
        InputError: no such model, or a damaged artifact.
    """
    from edgetune.models.checkpoint import check_model_folder
    from edgetune.models.resolve import resolve_model

    given = Path(path)
    folder = resolve_model(path)
    if (given / ENTRY).is_file() and folder != given:
        return open_artifact(given)
    check_model_folder(folder)
    return Artifact(folder.resolve(), "model", "merge", hash_source(folder), facts={"folder": "."})


def adopt_files(paths: Iterable[Path]) -> Artifact:
    """Return GGUF files and ONNX folders as the artifact that `export` makes.

    Raises:
        InputError: a path that is neither, or a graph whose weights lie outside its folder.
    """
    files = [_describe_file(path) for path in paths]
    key = " ".join(str(file["sha256"]) for file in files)
    return Artifact(Path(), "files", "export", key, facts={"files": files})


def base_of(inputs: Mapping[str, Artifact]) -> str | None:
    """Return the base model that a stage's inputs were made of, if one of them says."""
    for artifact in inputs.values():
        model = artifact.facts.get("model") or artifact.facts.get("student")
        if model:
            return str(artifact.path / model["base"])
    return None


def open_artifact(path: Path) -> Artifact:
    """Read the artifact in ``path`` and compare its files with their hashes.

    Raises:
        InputError: not an artifact, or damaged.
    """
    artifact = load_artifact(path)
    if faults := verify_artifact(artifact):
        raise InputError(f"this artifact is damaged: {faults[0]}", where=str(path))
    return artifact


def _tokenizer_of(adapter: Path) -> Path | None:
    """Return an adapter's folder if the tokenizer of its training lies there."""
    from edgetune.models.resolve import TOKENIZER_FILES

    return adapter if any((adapter / name).is_file() for name in TOKENIZER_FILES) else None


def _describe_file(path: Path) -> dict[str, object]:
    gguf = path.suffix == ".gguf"
    if not gguf and not (path / "genai_config.json").exists():
        raise InputError("neither a GGUF file nor a folder with genai_config.json", where=str(path))
    if not gguf:
        from edgetune.runtimes.genai_folder import find_graph
        from edgetune.runtimes.onnx_header import open_onnx

        open_onnx(find_graph(path))  # what it names outside its folder is refused before it runs
    parts = [path] if gguf else [p for p in path.rglob("*") if p.is_file()]
    return {
        "name": path.name,
        "format": "gguf" if gguf else "onnx",
        "scheme": path.stem.rpartition("-")[2],
        "path": str(path.resolve()),
        "bytes": sum(part.stat().st_size for part in parts),
        "sha256": hash_source(path),
        "lossless": False,
    }
