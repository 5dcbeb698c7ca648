"""export: merged weights and the plan → GGUF and ONNX files, each compared with the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgetune.artifact import Artifact
from edgetune.data.contract import encoder_of, golden_of
from edgetune.data.encode import Encoder
from edgetune.data.load import load_splits
from edgetune.data.prepare import usable_rows
from edgetune.data.split import choose_rows
from edgetune.errors import Unsupported
from edgetune.export.adapter import Shipped, find_adapter, ship_adapter
from edgetune.export.check import (
    Reference,
    check_file,
    make_budget_gates,
    make_gates,
    make_reference,
)
from edgetune.export.files import find_refusals, write_ggufs, write_onnx
from edgetune.export.gguf.header import header_of
from edgetune.export.ollama.modelfile import derive_prompt_format, write_modelfile
from edgetune.export.readme import write_readme
from edgetune.log import Log, bytes_text
from edgetune.models.checkpoint import Checkpoint
from edgetune.models.checkpoint_tensors import CheckpointTensors
from edgetune.models.hardware import count_threads, require_room, trim_malloc
from edgetune.models.vocabulary import check_vocabulary
from edgetune.quantize.plan import read_plan
from edgetune.recipe import Sections
from edgetune.runtimes import open_for_check, open_merged


def run(sections: Sections, inputs: dict[str, Artifact], out: Path, log: Log) -> dict[str, Any]:
    """Write every file of the plan that the model's shapes and vocabulary allow, and check it.

    Writes:
        ``gguf/<name>-<scheme>.gguf`` with a ``.Modelfile`` each, ``onnx/<precision>/`` and, where
        ``export.adapter`` asks for it, ``gguf/<name>-adapter.gguf`` and ``onnx/adapter/``; a
        ``README.md`` that says how clients run them.
    """
    # 1. The plan, and what cannot be: refused by name before any work.
    model, planned = inputs["merge"].model_folder, inputs["quantize"].path
    plan = read_plan(planned)
    trained = find_adapter(inputs) if sections.export.adapter else None
    check_vocabulary(model)
    checkpoint = Checkpoint(model)
    checkpoint.say_beside(log)
    CheckpointTensors(model).check_finite()
    # A recipe also names what the plan left out; a plan alone is all that is asked for.
    refused = find_refusals(model, sections.quantize or plan)
    for refusal in refused:
        log.warn(f"no {refusal['scheme']}.{refusal['format']}: {refusal['why']}")
    copies = len(plan.gguf) + len(plan.onnx) + (6 if trained else 2)
    require_room(out, checkpoint.bytes * copies, "the exported files")

    # 2. GGUF files from the model, a tensor at a time; a float32 graph, and the others from it.
    files: list[dict[str, Any]] = []
    stopped = {refusal["format"] for refusal in refused}
    if plan.gguf and "gguf" not in stopped:
        header = header_of(model, sections.file_name)
        written = write_ggufs(model, header, plan, planned, out, log)
        files, refused = files + written.files, refused + written.refused
    if plan.onnx and "onnx" not in stopped:
        written = write_onnx(model, plan, planned, out, log)
        files, refused = files + written.files, refused + written.refused
    if not files:
        why = "; ".join(f"{each['scheme']}: {each['why']}" for each in refused)
        raise Unsupported(f"no file can be written: {why}", where=str(model))

    # 3. The merged model's token ids and distributions, on probes and test rows.
    threads = count_threads()
    rows = load_splits(sections.data, sections.seed, log.muted()).test
    encoder = encoder_of(model, sections.data)
    rows = usable_rows(encoder, rows, log.muted(), "test", sections.data.on_bad_row)
    chosen = choose_rows(rows, sections.export.check_rows, sections.seed)
    merged = open_merged(model, threads)
    try:
        reference = make_reference(encoder, chosen, merged, out / "scratch")
    finally:
        merged.close()
    trim_malloc()

    # 4. Each file in its own runtime against them; what a client has to know of it beside it.
    golden = golden_of(model, encoder, rows)
    gates = _check_files(files, encoder, golden, reference, out, threads, log)
    gates += make_budget_gates(files, plan.budgets)

    # 5. The adapter alone, over the base in each format.
    shipped = Shipped()
    if trained is not None:
        formats = [kind for kind in ("gguf", "onnx") if getattr(plan, kind)]
        shipped = ship_adapter(trained, model, sections.file_name, formats, reference, out, threads)
        gates, refused = gates + shipped.gates, refused + shipped.refused

    # 6. How clients run the files, beside them.
    write_readme(sections.file_name, model, files, shipped.adapters, golden, out)

    # 7. What the person who waits wants to know.
    for line in (*map(_summary, files), *map(_adapter_summary, shipped.adapters)):
        log.say(line)
    for refusal in shipped.refused:
        log.warn(f"no adapter.{refusal['format']}: {refusal['why']}")
    return {"files": files, "adapters": shipped.adapters, "refused": refused, "gates": gates}


def _check_files(
    files: list[dict[str, Any]],
    encoder: Encoder,
    golden: list[dict[str, Any]],
    reference: Reference,
    out: Path,
    threads: int,
    log: Log,
) -> list[dict[str, Any]]:
    """Put what was found of each file into its entry, write Modelfiles, and return the gates."""
    gates: list[dict[str, Any]] = []
    with log.progress("checks", len(files)) as bar:
        for file in files:
            runtime: Any = open_for_check(out / file["path"], threads)
            try:
                file["checks"] = check_file(runtime, reference)
                if file["format"] == "gguf":
                    prompt_format = derive_prompt_format(encoder, golden, runtime)
                    page = write_modelfile(out / file["path"], prompt_format)
                    file["modelfile"] = page.relative_to(out).as_posix()
                    file["modelfile_template"] = prompt_format.template is not None
            finally:
                runtime.close()
            gates += make_gates(file["name"], file["scheme"], file["checks"])
            bar.update(1, now=file["name"])
    return gates


def _summary(file: dict[str, Any]) -> str:
    checks = file["checks"]
    ids = "equal" if checks["token_ids_equal"] else f"DIFFER: {checks['different'][0]!r}"
    return (
        f"{file['name']}: {bytes_text(file['bytes'])}, KL {checks['kl_all_tokens']:.2e} to the "
        f"merged model, same top token at {checks['top1_all_tokens']:.2%}, token ids {ids}"
    )


def _adapter_summary(adapter: dict[str, Any]) -> str:
    return (
        f"{adapter['name']}: {bytes_text(adapter['bytes'])}, over the float32 base KL "
        f"{adapter['kl_all_tokens']:.2e} to base + adapter in torch, "
        f"{adapter['kl_all_tokens_to_merged']:.2e} to the merged model"
    )
