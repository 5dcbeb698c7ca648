"""quantize: merged weights and the user's own data → the type of every tensor, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgetune.artifact import Artifact, hash_file
from edgetune.data.contract import encoder_of
from edgetune.data.load import load_splits
from edgetune.data.split import choose_rows, leave_out
from edgetune.errors import InputError
from edgetune.export.gguf import GgufHeader, check_gguf_support, convert_gguf, find_architecture
from edgetune.log import Log
from edgetune.models.hardware import require_room
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.quantize.fit import Fits, fit_targets
from edgetune.quantize.imatrix import (
    InputEnergy,
    measure_inputs,
    name_for_gguf,
    read_imatrix,
    write_imatrix,
)
from edgetune.quantize.plan import ONNX_SETTINGS, Plan, hash_sequences, plan_gguf, write_plan
from edgetune.quantize.target import parse_target
from edgetune.recipe import Sections
from edgetune.runtimes.gguf_header import open_gguf

IMATRIX = "imatrix.gguf"


def run(sections: Sections, inputs: dict[str, Artifact], out: Path, log: Log) -> dict[str, Any]:
    """Decide what export writes: llama.cpp's own mix a scheme, a searched one a target.

    Writes:
        ``plan.json``, and ``imatrix.gguf`` if there is an importance matrix.
    """
    section = sections.quantize
    model = inputs["merge"].model_folder
    scratch = out / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    targets = [parse_target(text) for text in section.target]

    # 1. The importance matrix, from rows the model was trained on and is not judged on.
    sequences = _calibration(sections, model, log) if section.imatrix or targets else []
    path = out / IMATRIX
    energy, loaded = None, None
    if section.imatrix:
        loaded = load_model(ModelRef(model))
        energy = measure_inputs(loaded, sequences, log)
        _write_importance(model, energy, path, log)
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
    fits = Fits()
    if (section.gguf or targets) and not refused:
        source = scratch / "F32.gguf"
        weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
        require_room(out, (8 if targets else 2) * weights, "the model in float32 and its choices")
        if not source.exists():
            part = source.with_suffix(".part")
            convert_gguf(model, part, GgufHeader("plan"))
            part.rename(source)
        types, fallbacks = plan_gguf(source, section.gguf, importance)

        # 3. The types of files that have a budget, by search.
        found = find_architecture(model)
        if targets and found is not None:
            loaded = loaded or load_model(ModelRef(model))
            fits = fit_targets(
                loaded, open_gguf(source), found[:2], energy, importance,
                sequences, section.search_tokens, targets, scratch, sections.seed, log,
            )  # fmt: skip
            types |= fits.types

    # 4. The plan.
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
    }


def _calibration(sections: Sections, model: Path, log: Log) -> list[list[int]]:
    """Return train rows, chosen by the seed, as token ids; none of them is a row that judges.

    Raises:
        InputError: every train row judges too.
    """
    if sections.data is None:
        raise InputError(
            "the importance matrix needs data",
            where="quantize.imatrix",
            hint="name data, or set quantize.imatrix: false",
        )
    encoder = encoder_of(model, sections.data)
    rows = load_splits(sections.data, sections.seed, log.muted())
    free = leave_out(rows.train, rows.test)
    if not free:
        raise InputError(
            f"all {len(rows.train)} train rows are among those that judge the files",
            where="data.test",
            hint="name test rows that are not trained on",
        )
    if len(free) < len(rows.train):
        log.warn(f"{len(rows.train) - len(free)} train rows judge too: not calibrated on")
    chosen = choose_rows(free, sections.quantize.calibration_rows, sections.seed)
    return [encoder.encode(row).ids for row in chosen]


def _write_importance(model: Path, energy: InputEnergy, path: Path, log: Log) -> None:
    """Write the model's inputs under llama.cpp's names, if it knows the model."""
    found = find_architecture(model)
    if found is None:
        log.warn("no importance matrix: llama.cpp has no names for this architecture's weights")
        return
    write_imatrix(name_for_gguf(energy, *found), path, "train rows, chosen by the seed")
