"""quantize: merged weights and the user's own data → the type of every tensor, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgetune.artifact import Artifact, hash_file
from edgetune.export.gguf import GgufHeader, check_gguf_support, convert_gguf, find_architecture
from edgetune.log import Log
from edgetune.models.hardware import require_room
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.quantize.calibration import Texts, choose_texts
from edgetune.quantize.fit import Fits, fit_targets
from edgetune.quantize.grid import GRIDS
from edgetune.quantize.imatrix import (
    InputEnergy,
    measure_inputs,
    name_for_gguf,
    read_imatrix,
    write_imatrix,
)
from edgetune.quantize.plan import (
    ONNX_SETTINGS,
    TRAINED,
    Plan,
    hash_sequences,
    plan_gguf,
    write_plan,
)
from edgetune.quantize.search import TYPES
from edgetune.quantize.target import parse_target
from edgetune.quantize.train import train_on_grid, write_trained
from edgetune.recipe import Sections
from edgetune.runtimes.gguf_header import GgufFile, open_gguf

IMATRIX = "imatrix.gguf"


def run(sections: Sections, inputs: dict[str, Artifact], out: Path, log: Log) -> dict[str, Any]:
    """Decide what export writes: llama.cpp's own mix a scheme, a searched one a target.

    Writes:
        ``plan.json``; ``imatrix.gguf`` if there is an importance matrix; with ``train``
        ``trained/<file>.safetensors``, the bytes of its tensors.
    """
    section = sections.quantize
    model = inputs["merge"].model_folder
    (out / "scratch").mkdir(parents=True, exist_ok=True)
    targets = [parse_target(text) for text in section.target]

    # 1. The importance matrix, from rows the model was trained on and is not judged on.
    wants_text = section.imatrix or bool(targets)
    texts = choose_texts(sections, model, log) if wants_text else Texts([], [], [])
    path = out / IMATRIX
    loaded = load_model(ModelRef(model)) if wants_text else None
    energy = measure_inputs(loaded, texts.calibration, log) if section.imatrix else None
    if energy is not None:
        _write_importance(model, energy, path, log)
    importance = read_imatrix(path) if path.is_file() else {}

    # 2. llama.cpp's type for every tensor, asked of llama.cpp on the model itself.
    refused = check_gguf_support(model)
    types: dict[str, dict[str, str]] = {}
    fallbacks: list[dict[str, str]] = []
    fits, trained = Fits(), []
    if (section.gguf or targets) and not refused:
        source = _convert(model, out, bool(targets))
        types, fallbacks = plan_gguf(source.path, section.gguf, importance)

        # 3. The types of files that have a budget, by search; their weights, by training.
        found = find_architecture(model)
        if targets and found is not None:
            fits = fit_targets(
                loaded, source, found[:2], energy, importance, texts.calibration,
                section.search_tokens, tuple(GRIDS) if section.train else TYPES, targets,
                out / "scratch", sections.seed, log,
            )  # fmt: skip
            types |= fits.types
        if section.train and fits.types:
            trained = _train(sections, model, loaded, source, fits, texts, out, log)

    # 4. The plan.
    calibration = {
        "split": "train",
        "rows": len(texts.calibration),
        "tokens": sum(map(len, texts.calibration)),
        "sha256": hash_sequences(texts.calibration),
    }
    plan = Plan(
        gguf=types,
        onnx={precision: ONNX_SETTINGS[precision] for precision in section.onnx},
        fallbacks=fallbacks,
        imatrix_sha256=hash_file(path) if importance else None,
        calibration=calibration if importance else {},
    )
    write_plan(plan, out)
    log.say(
        f"{len(types)} GGUF schemes, {len(plan.onnx)} ONNX precisions; importance of "
        f"{len(importance)} weights from {calibration['tokens']} tokens"
    )
    for scheme in types:
        count = sum(fallback["scheme"] == scheme for fallback in fallbacks)
        if count:
            log.warn(f"{scheme}: {count} tensors have rows that its types cannot hold")
    return {
        "schemes": {"gguf": list(types), "onnx": list(plan.onnx)},
        "fallbacks": fallbacks,
        "refused": [{"format": "gguf", "why": why} for why in refused],
        "importance": {"tensors": len(importance), "sha256": plan.imatrix_sha256},
        "calibration": plan.calibration,
        "search": fits.facts,
        "trained": trained,
    }


def _convert(model: Path, out: Path, searched: bool) -> GgufFile:
    """Return the model as an F32 file in scratch, made once."""
    source = out / "scratch" / "F32.gguf"
    weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    require_room(out, (8 if searched else 2) * weights, "the model in float32 and its choices")
    if not source.exists():
        part = source.with_suffix(".part")
        convert_gguf(model, part, GgufHeader("plan"))
        part.rename(source)
    return open_gguf(source)


def _train(
    sections: Sections, model: Path, loaded: Any, source: GgufFile, fits: Fits, texts: Texts,
    out: Path, log: Log,
) -> list[dict[str, Any]]:  # fmt: skip
    """Train each searched file's weights on its grid; return what that changed."""
    assert fits.candidates is not None
    found = []
    (out / "metrics.jsonl").unlink(missing_ok=True)
    for name, types in fits.types.items():
        own = {tensor: kind for tensor, kind in types.items() if tensor in fits.candidates.weights}
        raw, facts = train_on_grid(
            model, fits.candidates, own, texts.training, texts.judged, sections.quantize.grid,
            sections.seed, out, name, log,
        )  # fmt: skip
        write_trained(raw, source, fits.candidates, loaded, out / TRAINED / f"{name}.safetensors")
        found.append(facts)
    return found


def _write_importance(model: Path, energy: InputEnergy, path: Path, log: Log) -> None:
    """Write the model's inputs under llama.cpp's names, if it knows the model."""
    found = find_architecture(model)
    if found is None:
        log.warn("no importance matrix: llama.cpp has no names for this architecture's weights")
        return
    write_imatrix(name_for_gguf(energy, *found), path, "train rows, chosen by the seed")
