"""quantize: merged weights and the user's own data → the type of every tensor, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgetune.artifact import Artifact, hash_file
from edgetune.data.contract import encoder_of
from edgetune.data.load import load_splits
from edgetune.data.split import choose_rows
from edgetune.errors import InputError
from edgetune.export.gguf import GgufHeader, check_gguf_support, convert_gguf, find_architecture
from edgetune.log import Log
from edgetune.models.hardware import require_room
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.quantize.imatrix import measure_inputs, name_for_gguf, read_imatrix, write_imatrix
from edgetune.quantize.plan import ONNX_SETTINGS, Plan, hash_sequences, plan_gguf, write_plan
from edgetune.recipe import Sections

IMATRIX = "imatrix.gguf"


def run(sections: Sections, inputs: dict[str, Artifact], out: Path, log: Log) -> dict[str, Any]:
    """Decide what export writes: llama.cpp's own mix a scheme, weighed by the user's data.

    Writes:
        ``plan.json``, and ``imatrix.gguf`` if there is an importance matrix.
    """
    section = sections.quantize
    model = inputs["merge"].model_folder
    scratch = out / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)

    # 1. The importance matrix, from rows the model was trained on.
    sequences = _calibration(sections, model, log) if section.imatrix else []
    path = out / IMATRIX
    if sequences:
        _write_importance(model, sequences, path, log)
    importance = read_imatrix(path) if path.is_file() else {}
    calibration = {
        "split": "train",
        "rows": len(sequences),
        "tokens": sum(map(len, sequences)),
        "sha256": hash_sequences(sequences),
    }

    # 2. llama.cpp's type for every tensor, asked of llama.cpp on the model itself.
    refused = check_gguf_support(model)
    types: dict[str, dict[str, str]] = {}
    fallbacks: list[dict[str, str]] = []
    if section.gguf and not refused:
        source = scratch / "F32.gguf"
        weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
        require_room(out, 2 * weights, "the model in float32")
        convert_gguf(model, source, GgufHeader("plan"))
        types, fallbacks = plan_gguf(source, section.gguf, importance)

    # 3. The plan.
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
    }


def _calibration(sections: Sections, model: Path, log: Log) -> list[list[int]]:
    """Return train rows, chosen by the seed, as token ids."""
    if sections.data is None:
        raise InputError(
            "the importance matrix needs data",
            where="quantize.imatrix",
            hint="name data, or set quantize.imatrix: false",
        )
    encoder = encoder_of(model, sections.data)
    rows = load_splits(sections.data, sections.seed, log.muted()).train
    chosen = choose_rows(rows, sections.quantize.calibration_rows, sections.seed)
    return [encoder.encode(row).ids for row in chosen]


def _write_importance(model: Path, sequences: list[list[int]], path: Path, log: Log) -> None:
    """Measure the model's inputs and write them under llama.cpp's names, if it knows the model."""
    found = find_architecture(model)
    if found is None:
        log.warn("no importance matrix: llama.cpp has no names for this architecture's weights")
        return
    energy = measure_inputs(load_model(ModelRef(model)), sequences, log)
    write_imatrix(name_for_gguf(energy, *found), path, "train rows, chosen by the seed")
