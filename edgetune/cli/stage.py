"""What the commands of single stages share: inputs from anywhere, one stage, one answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edgetune.artifact import ENTRY, Artifact, hash_source, load_artifact, verify_artifact
from edgetune.cli.options import judge, make_log, require, show_plan, stage_recipe
from edgetune.disk import check_place
from edgetune.errors import GateFailed, InputError, nearest
from edgetune.recipe import GGUF_SCHEMES, ONNX_SCHEMES

F = TypeVar("F", bound=Callable[..., Any])


def schemes_option(function: F) -> F:
    """Add ``--scheme``, repeated for several files."""
    return click.option(
        "--scheme",
        "schemes",
        multiple=True,
        metavar="NAME",
        help=f"Files to make: {', '.join(GGUF_SCHEMES)} (GGUF), {', '.join(ONNX_SCHEMES)} (ONNX).",
    )(function)


def run_stage(
    name: str,
    inputs: dict[str, Artifact],
    options: dict[str, Any],
    schemes: tuple[str, ...] = (),
    silent: bool = False,
) -> Artifact:
    """Run one stage from command-line options, print its folder and return the artifact.

    With ``--dry-run`` the resolved recipe is printed and the command ends.
    """
    from edgetune import pipeline
    from edgetune.preflight import check_run

    flags = dict(options)
    out, recipe_path = flags.pop("out"), flags.pop("recipe")
    overrides, dry_run = flags.pop("overrides"), flags.pop("dry_run")
    as_json, quiet, resume = flags.pop("as_json"), flags.pop("quiet"), flags.pop("resume", True)
    overrides = (*overrides, *_scheme_overrides(schemes))
    if recipe_path is None:
        require(flags.get("data"), "--data", "name a file of rows (or a --recipe that does)")
        if flags.get("model") is None and inputs:
            flags["model"] = _base_of(inputs)
        require(flags.get("model"), "--model", "name a model folder (or a --recipe that does)")
    recipe, origins = stage_recipe(name, recipe_path, overrides, flags)
    if dry_run:
        if out is not None:
            check_place(out)
        for warning in check_run(recipe, (name,)):
            make_log(quiet).warn(warning)
        show_plan(recipe, origins, [f"{name}: would write {out or '(no --out given)'}"], as_json)
        raise click.exceptions.Exit(0)
    require(out, "--out", "name a new folder")
    artifact = pipeline.run_alone(name, recipe, inputs, out, make_log(quiet), fresh=not resume)
    if not silent:
        result = {"out": str(out), "facts": artifact.facts}
        judge(result, str(out), as_json, failed_gate(artifact))
    return artifact


def open_trained(
    path: Path | None, flag: str, options: dict[str, Any], earlier: tuple[Path, ...] = ()
) -> Artifact:
    """Return what ``tune`` or ``distill`` made, or a PEFT adapter of anyone's as the same.

    Args:
        path: what was given.
        flag: by which option.
        options: of the command line; ``model`` is the base of a PEFT adapter.
        earlier: adapters that the base had folded in when this one was trained, first to last.
    """
    require(path, flag, "name the folder of `edgetune tune`, or a PEFT adapter")
    assert path is not None
    if (path / ENTRY).exists() and not earlier:
        return _whole(load_artifact(path))
    from edgetune.models.ref import ModelRef
    from edgetune.models.resolve import resolve_adapter, resolve_model

    folders = [resolve_adapter(one) for one in (*earlier, path)]
    require(options.get("model"), "--model", "a PEFT adapter needs its base")

    base = resolve_model(options["model"])
    *below, top = [folder.resolve() for folder in folders]
    facts = {
        "model": ModelRef(base.resolve(), top).to_json(path),
        "earlier": [str(folder) for folder in below],
        "foreign": True,  # what they were trained over is still to be found out
        "compute_dtype": "float32",
        "contract": str(_tokenizer_of(top) or base.resolve()),
    }
    key = " ".join(hash_source(folder) for folder in (base, *folders))
    return Artifact(path.resolve(), "adapter", "tune", key, facts=facts)


def _tokenizer_of(adapter: Path) -> Path | None:
    """Return an adapter's folder if the tokenizer of its training lies there."""
    from edgetune.models.resolve import TOKENIZER_FILES

    return adapter if any((adapter / name).is_file() for name in TOKENIZER_FILES) else None


def open_model(options: dict[str, Any]) -> Artifact:
    """Return what ``merge`` made, or a Hugging Face folder of anyone's as the same."""
    require(options.get("model"), "--model", "name a model folder, or what `edgetune merge` made")
    from edgetune.models.checkpoint import check_model_folder
    from edgetune.models.resolve import resolve_model

    given = Path(options["model"])
    folder = resolve_model(options["model"])
    if (given / ENTRY).is_file() and folder != given:
        artifact = _whole(load_artifact(given))
        options["model"] = str(folder)
        return artifact
    check_model_folder(folder)
    return Artifact(folder.resolve(), "model", "merge", hash_source(folder), facts={"folder": "."})


def open_files(paths: tuple[Path, ...]) -> Artifact:
    """Return files of anyone's as what ``export`` makes."""
    files = []
    for path in paths:
        gguf = path.suffix == ".gguf"
        if not gguf and not (path / "genai_config.json").exists():
            raise InputError(
                "neither a GGUF file nor a folder with genai_config.json", where=str(path)
            )
        parts = [path] if gguf else [p for p in path.rglob("*") if p.is_file()]
        files.append(
            {
                "name": path.name,
                "format": "gguf" if gguf else "onnx",
                "scheme": path.stem.rpartition("-")[2],
                "path": str(path.resolve()),
                "bytes": sum(part.stat().st_size for part in parts),
                "sha256": hash_source(path),
                "lossless": False,
            }
        )
    key = " ".join(str(file["sha256"]) for file in files)
    return Artifact(Path(), "files", "export", key, facts={"files": files})


def failed_gate(artifact: Artifact) -> GateFailed | None:
    """Return the first of the artifact's own gates that did not hold."""
    failed = [gate for gate in artifact.facts.get("gates", []) if not gate["ok"]]
    if not failed:
        return None
    first = failed[0]
    return GateFailed(
        f"{first['name']} is {first['value']}, the limit is {first['limit']}",
        where=str(artifact.path),
    )


def _scheme_overrides(schemes: tuple[str, ...]) -> tuple[str, ...]:
    if not schemes:
        return ()
    known = (*GGUF_SCHEMES, *ONNX_SCHEMES)
    for scheme in schemes:
        if scheme not in known:
            raise InputError(f"no scheme '{scheme}'{nearest(scheme, known)}", where="--scheme")
    gguf = ", ".join(s for s in schemes if s in GGUF_SCHEMES)
    onnx = ", ".join(s for s in schemes if s in ONNX_SCHEMES)
    return (f"quantize.gguf=[{gguf}]", f"quantize.onnx=[{onnx}]")


def _base_of(inputs: dict[str, Artifact]) -> str | None:
    for artifact in inputs.values():
        found = artifact.facts.get("model") or artifact.facts.get("student")
        if found:
            return str(artifact.path / found["base"])
    return None


def _whole(artifact: Artifact) -> Artifact:
    faults = verify_artifact(artifact)
    if faults:
        raise InputError(f"this artifact is damaged: {faults[0]}", where=str(artifact.path))
    return artifact
