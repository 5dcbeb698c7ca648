"""quantize: merged weights and the user's own data → the type of every tensor, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from edgetune.artifact import Artifact, hash_file
from edgetune.export.gguf.header import header_of
from edgetune.export.gguf.support import check_gguf_support, find_architecture
from edgetune.export.onnx.build import check_onnx_support
from edgetune.export.onnx.frame import open_frame
from edgetune.export.sources import convert_to_gguf, count_header, describe_onnx
from edgetune.export.trial import Trials, gguf_writer, onnx_writer
from edgetune.facts import FormatRefusal, ImportanceFacts, QuantizeFacts
from edgetune.log import Log
from edgetune.measure.subject import make_latency_prompt
from edgetune.models.checkpoint_tensors import CheckpointTensors
from edgetune.models.load import load_model
from edgetune.models.offload import load_or_offload
from edgetune.models.ref import ModelRef
from edgetune.models.vocabulary import check_vocabulary
from edgetune.quantize.calibration.activations import ActivationStats
from edgetune.quantize.calibration.device import collect_stats_on
from edgetune.quantize.calibration.imatrix import (
    describe_imatrix,
    name_for_gguf,
    read_imatrix,
    write_imatrix,
)
from edgetune.quantize.calibration.layer_passes import open_hessians
from edgetune.quantize.calibration.rows import Texts, choose_texts
from edgetune.quantize.methods import METHODS, Job, check_method, types_of
from edgetune.quantize.plan import (
    IMATRIX,
    ONNX_SETTINGS,
    Plan,
    describe_calibration,
    log_plan,
    plan_gguf,
    settings_of,
    warn_of_refused,
    write_plan,
    write_quants,
)
from edgetune.quantize.row_order import order_rows
from edgetune.quantize.search.budget import MEASURED, Budget, parse_budget
from edgetune.quantize.search.gguf import GgufSource, build_gguf_problem
from edgetune.quantize.search.onnx import build_onnx_problem
from edgetune.quantize.search.problem import SearchResult, SearchSettings, search_types
from edgetune.recipe import Requests, Sections
from edgetune.runtimes.gguf_header import GgufFile
from edgetune.runtimes.gpu import choose_float32_device


@dataclass
class _Work:
    """What the stage's steps read and fill in."""

    sections: Sections
    model: Path
    out: Path
    log: Log
    budgets: list[Budget]
    texts: Texts
    loaded: Any = None  # the model in torch
    activations: ActivationStats | None = None
    device: str = "cpu"  # where calibration runs
    importance: dict[str, Any] = field(default_factory=dict)
    requantized: list[dict[str, Any]] = field(default_factory=list)

    @property
    def scratch(self) -> Path:
        return self.out / "scratch"

    def budgets_of(self, container: str) -> list[Budget]:
        """Return the budgets of the files of one format."""
        return [budget for budget in self.budgets if budget.format == container]

    @property
    def copies(self) -> int:
        """How often the 16-bit model has to fit on the disk: its choices, files to try them."""
        return 14 if any(budget.kind in MEASURED for budget in self.budgets) else 8

    def settings(self, container: str, run_files: Any) -> SearchSettings:
        """Return the settings of a format's search."""
        section = self.sections.quantize
        hessians = partial(
            open_hessians, self.loaded, self.texts.calibration, self.device, self.scratch
        )
        return SearchSettings(
            self.loaded,
            self.texts.calibration,
            section.search_tokens,
            types_of(section.method, section.types, container),
            self.budgets_of(container),
            self.scratch,
            self.sections.seed,
            hessians if METHODS[section.method].needs_hessian else None,
            run_files,
        )


def run(sections: Sections, inputs: dict[str, Artifact], out: Path, log: Log) -> QuantizeFacts:
    """Choose what export writes: a fixed mix of types a scheme, a searched one a budget.

    Writes:
        ``plan.json``; ``imatrix.gguf`` if there is an importance matrix; for budgets, where
        ``method`` is not rtn ``quants/<file>.safetensors``, the bytes of its tensors.
    """
    section = sections.quantize
    model = inputs["merge"].model_folder
    check_vocabulary(model)
    (out / "scratch").mkdir(parents=True, exist_ok=True)
    budgets = [parse_budget(text) for text in section.budget]
    check_method(section.method, section.types, budgets)
    (out / "metrics.jsonl").unlink(missing_ok=True)

    # 1. The calibration rows, and the model as a GGUF file would hold it.
    reads_text = section.imatrix or bool(budgets)
    texts = choose_texts(sections, inputs, out, log) if reads_text else Texts([], [], [])
    work = _Work(sections, model, out, log, budgets, texts)
    trials = _make_trials(work)
    CheckpointTensors(model).check_finite()
    refused = {"gguf": check_gguf_support(model)}
    source = None if refused["gguf"] else _convert(work)

    # 2. One pass over rows the model was trained on and is not evaluated on: the importance matrix.
    needs_hessians = bool(budgets) and METHODS[section.method].needs_hessian
    if reads_text:
        work.device = choose_float32_device(sections.device, model, 1 + needs_hessians, log)
        whole = work.device == "cuda"
        work.loaded = load_model(ModelRef(model)) if whole else load_or_offload(model)
    if section.imatrix:
        stats = collect_stats_on(work.device, work.loaded, texts.calibration, log)
        work.activations = stats
        _write_importance(model, stats, source.tensors if source else None, out / IMATRIX, log)
    work.importance = read_imatrix(out / IMATRIX) if (out / IMATRIX).is_file() else {}

    # 3. llama.cpp's type for every tensor, asked of llama.cpp on the model itself.
    types: dict[str, dict[str, str]] = {}
    fallbacks: list[dict[str, str]] = []
    if source is not None:
        types, fallbacks = plan_gguf(source.path, section.gguf, work.importance)

    # 4. The types of files that have a budget, by search; their quants, by the method.
    gguf = SearchResult() if source is None else _search_gguf(work, source, trials)
    types |= gguf.types

    # 5. The same for ONNX graphs, whose runtime has types of its own.
    refused["onnx"] = check_onnx_support(model) if work.budgets_of("onnx") else []
    onnx = SearchResult() if refused["onnx"] else _search_onnx(work, trials)
    chosen = {"gguf": gguf.types, "onnx": onnx.types}
    warn_of_refused(budgets, chosen, refused, log)

    # 6. The plan.
    plan = _make_plan(work, types, fallbacks, gguf, onnx)
    write_plan(plan, out)
    log_plan(plan, len(work.importance), log)
    return _facts(plan, work, gguf, onnx, refused)


def _facts(
    plan: Plan,
    work: _Work,
    gguf: SearchResult,
    onnx: SearchResult,
    refused: Mapping[str, list[str]],
) -> QuantizeFacts:
    """Return the facts of the stage's artifact."""
    return QuantizeFacts(
        schemes={"gguf": list(plan.gguf), "onnx": list(plan.onnx)},
        fallbacks=plan.fallbacks,
        refused=[
            FormatRefusal(container, why) for container, each in refused.items() for why in each
        ],
        importance=ImportanceFacts(len(work.importance), plan.imatrix_sha256),
        calibration=plan.calibration,
        search=gguf.facts,
        search_onnx=onnx.facts,
        requantized=work.requantized,
    )


def _make_plan(
    work: _Work,
    types: dict[str, dict[str, str]],
    fallbacks: list[dict[str, str]],
    gguf: SearchResult,
    onnx: SearchResult,
) -> Plan:
    has_imatrix = bool(work.importance)
    return Plan(
        gguf=types,
        onnx={precision: ONNX_SETTINGS[precision] for precision in work.sections.quantize.onnx}
        | {name: settings_of(nodes) for name, nodes in onnx.types.items()},
        fallbacks=fallbacks,
        imatrix_sha256=hash_file(work.out / IMATRIX) if has_imatrix else None,
        calibration=describe_calibration(work.texts.calibration) if has_imatrix else {},
        budgets={f"{name}.gguf": most for name, most in gguf.max_bytes.items()}
        | {f"{name}.onnx": most for name, most in onnx.max_bytes.items()},
    )


def _make_trials(work: _Work) -> Trials:
    """Return what runs files, as bench would, where a budget is memory or time."""
    folder = work.scratch / "trials"
    if not any(budget.kind in MEASURED for budget in work.budgets):
        return Trials(folder, Requests(), [])
    requests = work.sections.requests
    max_length = work.sections.data.max_length
    prompt = make_latency_prompt(work.texts.calibration, requests, max_length)
    return Trials(folder, requests, prompt)


def _convert(work: _Work) -> GgufFile | None:
    """Return the model as an F32 file; its tensors are written for a search only."""
    searched = bool(work.budgets_of("gguf"))
    if not searched and not work.sections.quantize.gguf:
        return None
    # Export's own header: a budget counts it.
    header = header_of(work.model, work.sections.file_name)
    return convert_to_gguf(work.model, work.scratch, header, work.copies if searched else 0)


def _search_gguf(work: _Work, file: GgufFile, trials: Trials) -> SearchResult:
    """Search the types of the GGUF files that have a budget, and keep their quants."""
    found = find_architecture(work.model)
    if not work.budgets_of("gguf") or found is None:
        return SearchResult()
    keys = describe_imatrix(work.out / IMATRIX) if work.importance else {}
    source = GgufSource(
        file, *found[:2], work.activations, work.importance,
        partial(count_header, file, work.scratch, keys),
    )  # fmt: skip
    writer = partial(gguf_writer, file, work.importance, work.loaded)
    settings = work.settings("gguf", trials.run_by(writer, ".gguf"))
    result = search_types(build_gguf_problem(source, settings), settings, work.log)

    def in_file_order(name: str, rows: Any) -> Any:
        assert result.candidates is not None
        return order_rows(rows, file, result.candidates.weights[name], work.loaded)

    _requantize(work, "gguf", result, in_file_order)
    return result


def _search_onnx(work: _Work, trials: Trials) -> SearchResult:
    """Search the types of the ONNX graphs that have a budget, and keep their quants."""
    if not work.budgets_of("onnx"):
        return SearchResult()
    frame = open_frame(work.model, work.scratch / "builder")
    writer = partial(onnx_writer, frame, work.importance)
    settings = work.settings("onnx", trials.run_by(writer))
    source = describe_onnx(frame, work.scratch, work.importance)
    result = search_types(build_onnx_problem(source, settings), settings, work.log)
    _requantize(work, "onnx", result, lambda _, rows: rows)
    return result


def _requantize(
    work: _Work,
    container: str,
    result: SearchResult,
    in_file_order: Callable[[str, Any], Any],
) -> None:
    """Write the quants of each searched file as the quantization method makes them."""
    section = work.sections.quantize
    method = METHODS[section.method]
    if method.module is None:
        return
    settings = getattr(section, method.section) if method.section else None
    for name, types in result.types.items():
        assert result.candidates is not None
        own = {
            tensor: kind for tensor, kind in types.items() if tensor in result.candidates.weights
        }
        file = f"{name}.{container}"
        job = Job(
            work.model, work.loaded, result.candidates, own, work.texts, settings,
            work.sections.seed, work.out, file, work.log,
        )  # fmt: skip
        raw, facts = method.quantize_file(job)
        write_quants(work.out, file, raw, in_file_order)
        work.requantized.append({"name": name, "format": container, **facts})


def _write_importance(
    model: Path, stats: ActivationStats, tensors: Collection[str] | None, path: Path, log: Log
) -> None:
    """Write the model's inputs under llama.cpp's names, if it knows the model."""
    found = find_architecture(model)
    if found is None:
        log.warn("no importance matrix: llama.cpp has no names for this architecture's weights")
        return
    named = name_for_gguf(stats, *found, tensors)
    write_imatrix(named, path, "train rows, chosen by the seed")
