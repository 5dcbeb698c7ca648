"""export: merged weights and the plan → GGUF and ONNX files, each compared with the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetune.artifact import Artifact
from edgetune.data.contract import encoder_of, golden_of
from edgetune.data.dataset.open import open_splits
from edgetune.data.encode import Encoder
from edgetune.data.split import choose_rows
from edgetune.errors import Unsupported
from edgetune.export.adapter import AdapterExport, Shipped, find_adapter, ship_adapter
from edgetune.export.check import (
    Reference,
    check_file,
    make_budget_gates,
    make_gates,
    make_reference,
)
from edgetune.export.files import Written, find_refusals, write_ggufs, write_onnx
from edgetune.export.gguf.header import header_of
from edgetune.export.ollama.modelfile import derive_prompt_format, write_modelfile
from edgetune.export.over_gguf import find_over_gguf, find_pair, ship_over_gguf
from edgetune.export.readme import write_readme
from edgetune.export.room import count_onnx_bytes
from edgetune.facts import ExportedAdapter, ExportedFile, ExportFacts, from_json, to_json
from edgetune.log import Log, bytes_text
from edgetune.models.checkpoint import Checkpoint
from edgetune.models.checkpoint_tensors import CheckpointTensors
from edgetune.models.hardware import count_threads, require_room, trim_malloc
from edgetune.models.ref import ModelRef
from edgetune.models.vocabulary import check_vocabulary, embedding_rows
from edgetune.quantize.plan import Plan, read_plan
from edgetune.recipe import Sections
from edgetune.runtimes import open_for_check
from edgetune.runtimes.gpu import choose_float32_device, open_float32


def run(sections: Sections, inputs: dict[str, Artifact], out: Path, log: Log) -> ExportFacts:
    """Write every file of the plan that the model's shapes and vocabulary allow, and check it.

    Writes:
        ``gguf/<name>-<scheme>.gguf`` with a ``.Modelfile`` each, ``onnx/<precision>/`` and, where
        ``export.adapter`` asks for it, ``gguf/<name>-adapter.gguf`` and ``onnx/adapter/``; a
        ``README.md`` that says how clients run them. Of what was tuned over a GGUF file, the
        adapter for llama.cpp and the ``README.md`` alone.
    """
    over = find_over_gguf(inputs)
    if over is not None:
        return _export_over_gguf(sections, inputs, over, out, log)
    return _export_plan(sections, inputs, out, log)


def _export_plan(
    sections: Sections, inputs: dict[str, Artifact], out: Path, log: Log
) -> ExportFacts:
    """Write and check the files of a merged model and its plan."""
    # 1. The plan, and what cannot be: refused by name before any work.
    model = inputs["merge"].model_folder
    plan = read_plan(inputs["quantize"].path)
    trained = find_adapter(inputs) if sections.export.adapter else None
    check_vocabulary(model)
    checkpoint = Checkpoint(model)
    checkpoint.say_beside(log)
    weights = CheckpointTensors(model)
    weights.check_finite()
    # A recipe also names what the plan left out; a plan alone is all that is asked for.
    refused = find_refusals(model, sections.quantize if sections.has("quantize") else plan)
    for refusal in refused:
        log.warn(f"no {refusal['scheme']}.{refusal['format']}: {refusal['why']}")
    graphs = {} if _stopped(refused, "onnx") else plan.onnx
    room = count_onnx_bytes(graphs, weights.shapes, embedding_rows(model))
    room += 4 * checkpoint.bytes if trained else 0
    require_room(out, room, "the ONNX folders and the adapter's files")

    # 2. The files from the model, a tensor at a time.
    written = _write_files(sections, inputs, plan, refused, out, log)
    files, refused = written.files, written.refused

    # 3. The merged model's token ids and distributions, on probes and test rows.
    comparison = _measure_merged(sections, inputs, out, log)

    # 4. Each file in its own runtime against them; what a client has to know of it beside it.
    gates = _check_files(files, comparison, out, log)
    gates += make_budget_gates(files, plan.budgets)

    # 5. The adapter alone, over the base in each format.
    shipped = Shipped()
    if trained is not None:
        formats = [kind for kind in ("gguf", "onnx") if getattr(plan, kind)]
        assert trained.adapter is not None
        export = AdapterExport(trained.base, trained.adapter, model, sections.file_name, out)
        shipped = ship_adapter(export, formats, comparison.reference, count_threads())
        gates, refused = gates + to_json(shipped.gates), refused + to_json(shipped.refused)

    # 6. How clients run the files, beside them.
    write_readme(sections.file_name, model, files, shipped.adapters, comparison.golden, out)

    # 7. What the person who waits wants to know.
    facts = from_json(
        ExportFacts,
        {"files": files, "adapters": to_json(shipped.adapters), "refused": refused, "gates": gates},
    )
    for line in (*map(_summary, facts.files), *map(_adapter_summary, facts.adapters)):
        log.say(line)
    for failure in shipped.refused:
        log.warn(f"no adapter.{failure.format}: {failure.why}")
    return facts


def _export_over_gguf(
    sections: Sections, inputs: dict[str, Artifact], trained: ModelRef, out: Path, log: Log
) -> ExportFacts:
    """Write the adapter for llama.cpp over the GGUF file that it was trained over, and check it.

    Writes:
        ``gguf/<name>-adapter.gguf``, and a ``README.md`` that says how clients load the two.
    """
    # 1. The file, unchanged since the training.
    pair = find_pair(trained)
    (out / "scratch").mkdir(exist_ok=True)

    # 2. Token ids and distributions of the training's model, on probes and test rows.
    comparison = _measure_model(sections, inputs, trained, inputs["tune"].contract_folder, out, log)

    # 3. The adapter's file, and both in llama.cpp.
    facts = ship_over_gguf(pair, comparison.reference, sections.file_name, out, count_threads())
    files: list[dict[str, Any]] = to_json(facts.files)
    write_readme(sections.file_name, trained.base, files, facts.adapters, comparison.golden, out)
    log.say(_summary(facts.files[0], "base + adapter in torch"))
    for adapter in facts.adapters:
        log.say(
            f"{adapter.name}: {bytes_text(adapter.bytes)}, over the file's values in float32 KL "
            f"{adapter.kl_all_tokens:.2e} to base + adapter in torch"
        )
    return facts


@dataclass(frozen=True)
class _Comparison:
    """What files are compared with, and the golden prompts that a client's template is held to."""

    encoder: Encoder
    golden: list[dict[str, Any]]
    reference: Reference


def _write_files(
    sections: Sections,
    inputs: dict[str, Artifact],
    plan: Plan,
    refused: list[dict[str, str]],
    out: Path,
    log: Log,
) -> Written:
    """Write the files of every format that was not refused; the result lists all refusals.

    Raises:
        Unsupported: no file can be written.
    """
    model, planned = inputs["merge"].model_folder, inputs["quantize"].path
    result = Written(refused=list(refused))
    if plan.gguf and not _stopped(refused, "gguf"):
        header = header_of(model, sections.file_name)
        written = write_ggufs(model, header, plan, planned, out, log)
        result.files += written.files
        result.refused += written.refused
    if plan.onnx and not _stopped(refused, "onnx"):
        written = write_onnx(model, plan, planned, out, log)
        result.files += written.files
        result.refused += written.refused
    if not result.files:
        why = "; ".join(f"{each['scheme']}: {each['why']}" for each in result.refused)
        raise Unsupported(f"no file can be written: {why}", where=str(model))
    return result


def _stopped(refused: list[dict[str, str]], kind: str) -> bool:
    """Whether files of a format were refused before any work."""
    return any(refusal["format"] == kind for refusal in refused)


def _measure_merged(
    sections: Sections, inputs: dict[str, Artifact], out: Path, log: Log
) -> _Comparison:
    """Return token ids and log probabilities of the merged model on probes and test rows."""
    model = inputs["merge"].model_folder
    return _measure_model(sections, inputs, ModelRef(model), model, out, log)


def _measure_model(
    sections: Sections, inputs: dict[str, Artifact], ref: ModelRef, model: Path, out: Path,
    log: Log,
) -> _Comparison:  # fmt: skip
    """Return what a model says of probes and test rows, ``model`` being its contract's folder."""
    rows = open_splits(sections, inputs, out, log.muted())
    encoder = encoder_of(model, sections.data)
    usable = rows.usable("test", encoder, log.muted(), sections.data.on_bad_row)
    chosen = choose_rows(usable, sections.export.check_rows, sections.seed)
    device = choose_float32_device(sections.device, ref.base, 1, log)
    merged = open_float32(ref, count_threads(), device)
    try:
        reference = make_reference(encoder, chosen, merged, out / "scratch")
    finally:
        merged.close()
    trim_malloc()
    return _Comparison(
        encoder, golden_of(model, encoder, usable if rows.quotable else ()), reference
    )


def _check_files(
    files: list[dict[str, Any]], comparison: _Comparison, out: Path, log: Log
) -> list[dict[str, Any]]:
    """Compare each file with the merged model, write its Modelfile, and return the gates."""
    gates: list[dict[str, Any]] = []
    with log.progress("checks", len(files)) as bar:
        for file in files:
            runtime: Any = open_for_check(out / file["path"], count_threads())
            try:
                file["checks"] = check_file(runtime, comparison.reference)
                if file["format"] == "gguf":
                    prompt_format = derive_prompt_format(
                        comparison.encoder, comparison.golden, runtime
                    )
                    page = write_modelfile(out / file["path"], prompt_format)
                    file["modelfile"] = page.relative_to(out).as_posix()
                    file["modelfile_template"] = prompt_format.template is not None
            finally:
                runtime.close()
            gates += make_gates(file["name"], file["scheme"], file["checks"])
            bar.update(1, now=file["name"])
    return gates


def _summary(file: ExportedFile, against: str = "the merged model") -> str:
    """Return the line of a file for the person who waits."""
    checks = file.checks
    assert checks is not None
    ids = "equal" if checks.token_ids_equal else f"DIFFER: {checks.different[0]!r}"
    return (
        f"{file.name}: {bytes_text(file.bytes)}, KL {checks.kl_all_tokens:.2e} to {against}, "
        f"same top token at {checks.top1_all_tokens:.2%}, token ids {ids}"
    )


def _adapter_summary(adapter: ExportedAdapter) -> str:
    """Return the line of an adapter for the person who waits."""
    return (
        f"{adapter.name}: {bytes_text(adapter.bytes)}, over the float32 base KL "
        f"{adapter.kl_all_tokens:.2e} to base + adapter in torch, "
        f"{adapter.kl_all_tokens_to_merged:.2e} to the merged model"
    )
