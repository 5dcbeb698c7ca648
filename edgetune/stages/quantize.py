"""quantize: merged weights and the user's own data → the type of every tensor, and why."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from edgetune.artifact import Artifact, hash_file
from edgetune.disk import rename_whole
from edgetune.export.gguf.header import header_of
from edgetune.export.gguf.write import (
    GgufHeader,
    check_gguf_support,
    convert_gguf,
    find_architecture,
    measure_header,
    open_model,
)
from edgetune.export.onnx.blocks import EMBEDDING, HEAD, find_importance
from edgetune.export.onnx.build import (
    build_graph,
    check_onnx_support,
    load_matrices,
    measure_overhead,
)
from edgetune.export.trial import Trials, gguf_writer, onnx_writer
from edgetune.log import Log, counted
from edgetune.measure.subject import make_latency_prompt
from edgetune.models.checkpoint import Checkpoint
from edgetune.models.checkpoint_tensors import CheckpointTensors
from edgetune.models.hardware import require_room
from edgetune.models.load import load_model
from edgetune.models.offload import load_or_offload
from edgetune.models.ref import ModelRef
from edgetune.models.vocabulary import check_vocabulary
from edgetune.quantize.calibration.activations import ActivationStats, collect_activation_stats
from edgetune.quantize.calibration.imatrix import (
    describe_imatrix,
    name_for_gguf,
    read_imatrix,
    write_imatrix,
)
from edgetune.quantize.calibration.rows import Texts, choose_texts
from edgetune.quantize.formats.ggml import PLAIN
from edgetune.quantize.methods import WITH_FEEDBACK, refuse_deciding, types_of
from edgetune.quantize.plan import (
    IMATRIX,
    ONNX_SETTINGS,
    Plan,
    hash_sequences,
    plan_gguf,
    settings_of,
    write_plan,
    write_trained,
)
from edgetune.quantize.row_order import order_rows
from edgetune.quantize.search.budget import MEASURED, Target, parse_target
from edgetune.quantize.search.onnx import fit_onnx_targets
from edgetune.quantize.search.problem import Fits, fit_targets
from edgetune.recipe import Requests, Sections
from edgetune.runtimes.gguf_header import GgufFile, open_gguf


def run(sections: Sections, inputs: dict[str, Artifact], out: Path, log: Log) -> dict[str, Any]:
    """Decide what export writes: a fixed mix of types a scheme, a searched one a target.

    Writes:
        ``plan.json``; ``imatrix.gguf`` if there is an importance matrix; for targets, where
        ``method`` is not ggml ``trained/<file>.safetensors``, the bytes of its tensors.
    """
    section = sections.quantize
    model = inputs["merge"].model_folder
    check_vocabulary(model)
    (out / "scratch").mkdir(parents=True, exist_ok=True)
    asked = [parse_target(text) for text in section.target]
    targets, onnx_targets = ([t for t in asked if t.format == kind] for kind in ("gguf", "onnx"))
    refuse_deciding(section.decider, section.types, asked)
    (out / "metrics.jsonl").unlink(missing_ok=True)

    # 1. The model as a GGUF file would hold it, and the rows it is asked about.
    wants_text = section.imatrix or bool(asked)
    texts = choose_texts(sections, model, log) if wants_text else Texts([], [], [])
    trials = _make_trials(sections, asked, texts, out)
    CheckpointTensors(model).check_finite()
    refused = check_gguf_support(model)
    converts = (section.gguf or targets) and not refused
    header = header_of(model, sections.file_name)  # export's own: a budget counts it
    source = _convert(model, out, targets, header) if converts else None

    # 2. The importance matrix, from rows the model was trained on and is not judged on.
    path, loaded = out / IMATRIX, None
    if wants_text:  # a search changes weights, and needs them in memory
        loaded = load_model(ModelRef(model)) if asked else load_or_offload(model)
    energy = collect_activation_stats(loaded, texts.calibration, log) if section.imatrix else None
    if energy is not None:
        _write_importance(model, energy, source and source.tensors, path, log)
    importance = read_imatrix(path) if path.is_file() else {}

    # 3. llama.cpp's type for every tensor, asked of llama.cpp on the model itself.
    types: dict[str, dict[str, str]] = {}
    fallbacks: list[dict[str, str]] = []
    fits, trained = Fits(), []
    if source is not None:
        types, fallbacks = plan_gguf(source.path, section.gguf, importance)

        # 4. The types of files that have a budget, by search; their weights, by training.
        found = find_architecture(model)
        if targets and found is not None:
            fits = fit_targets(
                loaded, source, found[:2], energy, importance, texts.calibration,
                section.search_tokens, types_of(section.decider, section.types, "gguf"), targets,
                out / "scratch", sections.seed, log,
                trials.run_by(partial(gguf_writer, source, importance, loaded), ".gguf"),
                section.decider in WITH_FEEDBACK,
                partial(_count_header, source, out, describe_imatrix(path) if importance else {}),
            )  # fmt: skip
            types |= fits.types
        if section.decider != "ggml" and fits.types:

            def in_file_order(raw: Mapping[str, Any], fits: Fits = fits) -> dict[str, Any]:
                assert fits.candidates is not None
                return order_rows(raw, source, fits.candidates.weights, loaded)

            trained += _decide(
                sections, model, loaded, "gguf", fits, texts, in_file_order, out, log
            )

    # 5. The same for ONNX graphs, whose runtime has types of its own.
    refused_onnx = check_onnx_support(model) if onnx_targets else []
    onnx_fits = Fits()
    if onnx_targets and not refused_onnx:
        onnx_fits = _fit_onnx(
            sections, model, loaded, importance, texts, onnx_targets, trials, out, log
        )
        if section.decider != "ggml":
            trained += _decide(sections, model, loaded, "onnx", onnx_fits, texts, dict, out, log)

    for target in asked:
        if target.name not in fits.types | onnx_fits.types:
            why = "; ".join(refused if target.format == "gguf" else refused_onnx)
            log.warn(f"no {target.name}.{target.format}: {why}")

    # 6. The plan.
    budgets = {f"{name}.gguf": most for name, most in fits.budgets.items()}
    budgets |= {f"{name}.onnx": most for name, most in onnx_fits.budgets.items()}
    plan = _make_plan(
        sections, types, fallbacks, onnx_fits, texts, path if importance else None, budgets
    )
    write_plan(plan, out)
    _say(plan, len(importance), log)
    return {
        "schemes": {"gguf": list(types), "onnx": list(plan.onnx)},
        "fallbacks": fallbacks,
        "refused": [
            {"format": kind, "why": why}
            for kind, faults in (("gguf", refused), ("onnx", refused_onnx))
            for why in faults
        ],
        "importance": {"tensors": len(importance), "sha256": plan.imatrix_sha256},
        "calibration": plan.calibration,
        "search": fits.facts,
        "search_onnx": onnx_fits.facts,
        "trained": trained,
    }


def _make_plan(
    sections: Sections, types: dict[str, dict[str, str]], fallbacks: list[dict[str, str]],
    onnx_fits: Fits, texts: Texts, imatrix: Path | None, budgets: dict[str, int],
) -> Plan:  # fmt: skip
    calibration = {
        "split": "train",
        "rows": len(texts.calibration),
        "tokens": sum(map(len, texts.calibration)),
        "sha256": hash_sequences(texts.calibration),
    }
    return Plan(
        gguf=types,
        onnx={precision: ONNX_SETTINGS[precision] for precision in sections.quantize.onnx}
        | {name: settings_of(each) for name, each in onnx_fits.types.items()},
        fallbacks=fallbacks,
        imatrix_sha256=hash_file(imatrix) if imatrix else None,
        calibration=calibration if imatrix else {},
        budgets=budgets,
    )


def _say(plan: Plan, weighed: int, log: Log) -> None:
    """Say what was decided."""
    tokens = plan.calibration.get("tokens", 0)
    log.say(
        f"{counted(len(plan.gguf), 'GGUF scheme')}, {counted(len(plan.onnx), 'ONNX precision')}; "
        f"importance of {counted(weighed, 'tensor')} from {counted(tokens, 'token')}"
    )
    for scheme in plan.gguf:
        count = sum(fallback["scheme"] == scheme for fallback in plan.fallbacks)
        if count:
            log.warn(f"{scheme}: {counted(count, 'tensor')} with rows that its types cannot hold")


def _make_trials(sections: Sections, asked: list[Target], texts: Texts, out: Path) -> Trials:
    """Return what runs files, as bench would, where a target is memory or time."""
    folder = out / "scratch" / "trials"
    if not any(target.kind in MEASURED for target in asked):
        return Trials(folder, Requests(), [])
    requests = sections.requests
    prompt = make_latency_prompt(texts.calibration, requests, sections.data.max_length)
    return Trials(folder, requests, prompt)


def _copies(targets: list[Target]) -> int:
    """How often the 16-bit model has to fit on the disk: its choices, files to try them."""
    return 14 if any(target.kind in MEASURED for target in targets) else 8


def _count_header(
    source: GgufFile,
    out: Path,
    keys: Mapping[str, int | str],
    scheme: str,
    types: Mapping[str, str],
) -> int:
    """Return the bytes before the first tensor of the file that export will write.

    Args:
        source: the model as an F32 file, with export's header.
        out: the stage's folder.
        keys: what files say of the importance matrix, if their tensors are weighed with it.
        scheme: of the file.
        types: of its tensors.
    """
    weighed = any(kind not in PLAIN for kind in types.values())
    return measure_header(source, out / "scratch" / "header", scheme, keys if weighed else {})


def _convert(model: Path, out: Path, targets: list[Target], header: GgufHeader) -> GgufFile:
    """Return the model as an F32 file in scratch; its tensors are written for a search only."""
    if not targets:
        return open_model(model, out / "scratch" / "frame.gguf", header)
    source = out / "scratch" / "F32.gguf"
    require_room(
        out, _copies(targets) * Checkpoint(model).bytes, "the model in float32 and its choices"
    )
    if not source.exists():
        part = source.with_suffix(".part")
        convert_gguf(model, part, header)
        rename_whole(part, source)
    return open_gguf(source)


def _fit_onnx(
    sections: Sections, model: Path, loaded: Any, importance: dict[str, Any], texts: Texts,
    targets: list[Target], trials: Trials, out: Path, log: Log,
) -> Fits:  # fmt: skip
    """Search the types of the graph that export will write."""
    section = sections.quantize
    source = out / "scratch" / "fp32"
    require_room(
        out, _copies(targets) * Checkpoint(model).bytes, "the ONNX graph in float32 and its choices"
    )
    if not source.exists():
        part = source.with_name("unfinished-fp32")
        shutil.rmtree(part, ignore_errors=True)
        build_graph(model, part, out / "scratch" / "builder")
        rename_whole(part, source)

    def overhead(types: Mapping[str, str], rows: Mapping[str, int]) -> tuple[int, int]:
        return measure_overhead(source, model, out / "scratch/frame", settings_of(types), rows)

    return fit_onnx_targets(
        loaded, load_matrices(source), overhead, lambda name: find_importance(name, importance),
        (HEAD, EMBEDDING), texts.calibration, section.search_tokens,
        types_of(section.decider, section.types, "onnx"), targets, out / "scratch", sections.seed,
        log, trials.run_by(partial(onnx_writer, source, model, importance)),
        section.decider in WITH_FEEDBACK,
    )  # fmt: skip


def _decide(
    sections: Sections, model: Path, loaded: Any, kind: str, fits: Fits, texts: Texts,
    in_file_order: Callable[[Mapping[str, Any]], dict[str, Any]], out: Path, log: Log,
) -> list[dict[str, Any]]:  # fmt: skip
    """Keep the codes of each searched file as its method decides them.

    Returns:
        What that changed, a file each.
    """
    # Trainers take 190 MB, which no file without them should cost.
    from edgetune.quantize.methods.autoround import quantize_autoround
    from edgetune.quantize.methods.gptaq import quantize_gptaq
    from edgetune.quantize.methods.qat import train_qat

    section = sections.quantize
    assert fits.candidates is not None
    found = []
    for name, types in fits.types.items():
        own = {tensor: each for tensor, each in types.items() if tensor in fits.candidates.weights}
        file = f"{name}.{kind}"
        if section.decider == "autoround":
            raw, facts = quantize_autoround(
                model, fits.candidates, own, texts.calibration, texts.judged, section.autoround,
                sections.seed, file, log,
            )  # fmt: skip
        else:
            raw, facts = quantize_gptaq(
                loaded, fits.candidates, own, texts.calibration, texts.judged, file, log
            )
        if section.decider == "grid":
            raw, facts = train_qat(
                model, fits.candidates, own, raw, texts.training, texts.judged, section.grid,
                sections.seed, out, file, log,
            )  # fmt: skip
        if section.decider == "gptq":  # plain rounding makes the rest
            raw = {tensor: raw[tensor] for tensor in fits.candidates.fed(own)}
        write_trained(out, file, in_file_order(raw))
        found.append({"name": name, "format": kind, **facts})
    return found


def _write_importance(
    model: Path, energy: ActivationStats, tensors: Collection[str] | None, path: Path, log: Log
) -> None:
    """Write the model's inputs under llama.cpp's names, if it knows the model."""
    found = find_architecture(model)
    if found is None:
        log.warn("no importance matrix: llama.cpp has no names for this architecture's weights")
        return
    named = name_for_gguf(energy, *found, tensors)
    write_imatrix(named, path, "train rows, chosen by the seed")
