"""The Python API, which the command line is made of: a function for each command.

Stages take what their commands take: an artifact's folder, or anyone's model, adapter or files.
Keyword settings are keys of the stage's recipe section (``rank=8``), or of the shared ones
(``validation``, ``test``, ``max_length``, ``seed``, ``device``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetune.adopt import adopt_adapter, adopt_files, adopt_model, base_of, open_artifact
from edgetune.artifact import ENTRY, Artifact
from edgetune.disk import check_place
from edgetune.errors import InputError
from edgetune.lock import hold
from edgetune.log import Log
from edgetune.recipe import DataSection, Recipe
from edgetune.recipe.load import load_recipe
from edgetune.recipe.stage import SHARED, scheme_settings, stage_recipe, synthesize_settings
from edgetune.rundir import RunDir
from edgetune.sweep.entry import sweep as sweep

if TYPE_CHECKING:
    from edgetune.compare.checks import Question
    from edgetune.compare.comparison import Comparison
    from edgetune.runtimes import Runtime

PathLike = str | Path


@dataclass(frozen=True)
class Run:
    """A finished run: its directory, an artifact for each stage, and the report's values."""

    path: Path
    artifacts: Mapping[str, Artifact]
    report: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether every gate of the recipe and of the lossless files held."""
        return bool(self.report["verdict"] == "pass")

    @property
    def files(self) -> Path:
        """The folder of the files that ship."""
        return RunDir(self.path).files_path


def run(
    recipe: Recipe | PathLike,
    out: PathLike | None = None,
    *,
    ignore_plan: bool = False,
    log: Log | None = None,
) -> Run:
    """Run every stage of a recipe that is not done yet, and write the report.

    Args:
        recipe: a recipe, or the path of its YAML file.
        out: run directory; absent: ``runs/<name of the recipe>``.
        ignore_plan: run although the plan says that it does not fit this machine.
        log: absent: events in the run directory and nothing on stderr.
    """
    found, origins = (recipe, {}) if isinstance(recipe, Recipe) else load_recipe(Path(recipe))
    target = RunDir(Path(out or Path("runs") / found.name))
    check_place(target.path)
    with hold(target.lock_path, "this run"):
        quiet = log or Log(target.log_path, quiet=True)
        return run_recipe(found, origins, target, quiet, ignore_plan)


def run_recipe(
    recipe: Recipe, origins: dict[str, str], target: RunDir, log: Log, ignore_plan: bool = False
) -> Run:
    """Run a recipe whose values' origins are known; the caller holds the run's lock."""
    from edgetune import pipeline
    from edgetune.report import publish

    artifacts = pipeline.execute(recipe, origins, target, log, ignore_plan)
    target.link_files(artifacts.get("export"))
    return Run(target.path, artifacts, publish(recipe, artifacts, target, log))


def tune(
    model: str, data: str, out: PathLike, *, log: Log | None = None, **settings: Any
) -> Artifact:
    """Fine-tune a model on rows; the result is a LoRA adapter, or full weights."""
    return run_stage("tune", {}, Path(out), {"model": model, "data": data, **settings}, log)


def synthesize(data: str, out: PathLike, *, log: Log | None = None, **settings: Any) -> Artifact:
    """Have a teacher write rows about those of ``data``; ``endpoint_model`` is the key `model`."""
    flags, sets = synthesize_settings({"data": data, **settings})
    return run_stage("synthesize", {}, Path(out), flags, log, sets)


def distill(
    teacher: PathLike, data: str, out: PathLike, *, log: Log | None = None, **settings: Any
) -> Artifact:
    """Train a smaller student on the distribution of a teacher, a model or what `tune` made."""
    inputs, flags = distill_inputs(Path(teacher), settings)
    return run_stage("distill", inputs, Path(out), {"data": data, **flags}, log)


def merge(
    adapter: PathLike | Sequence[PathLike],
    data: str,
    out: PathLike,
    *,
    model: str | None = None,
    log: Log | None = None,
    **settings: Any,
) -> Artifact:
    """Merge adapters into their base, measured on rows; several lie one on top of the other."""
    paths = [adapter] if isinstance(adapter, str | Path) else list(adapter)
    *earlier, last = [Path(path) for path in paths]
    trained = adopt_adapter(last, model, earlier)
    flags = {"data": data, "model": model, **settings}
    return run_stage("merge", {trained.stage: trained}, Path(out), flags, log)


def quantize(
    model: str, data: str, out: PathLike, *, log: Log | None = None, **settings: Any
) -> Artifact:
    """Decide the type of every tensor of a model; :func:`export` writes the files."""
    merged, path = open_model(model)
    flags = {"model": path, "data": data, **settings}
    return run_stage("quantize", {"merge": merged}, Path(out), flags, log)


def export(
    model: str,
    data: str,
    out: PathLike,
    *,
    plan: PathLike | None = None,
    schemes: Sequence[str] = (),
    log: Log | None = None,
    **settings: Any,
) -> Artifact:
    """Write GGUF and ONNX files of a model and compare each with it, in its own runtime.

    Args:
        model: model folder, hub id, or what :func:`merge` made.
        data: rows to calibrate and compare on.
        out: new folder for the files.
        plan: what :func:`quantize` made; absent: made here, in ``<out>-plan``.
        schemes: files to make where there is no plan, such as ``Q4_K_M`` or ``int4``.
        log: absent: nothing on stderr.
        settings: keys of the recipe's ``export`` section, and the shared ones.
    """
    merged, path = open_model(model)
    shared = {"model": path, "data": data, **settings}
    inputs = {"merge": merged}
    sets = scheme_settings(schemes)
    if plan is None:
        shown = {name: value for name, value in shared.items() if name in SHARED}
        beside = Path(out).with_name(Path(out).name + "-plan")
        inputs["quantize"] = run_stage("quantize", dict(inputs), beside, shown, log, sets)
    else:
        inputs["quantize"] = open_artifact(Path(plan))
    return run_stage("export", inputs, Path(out), shared, log, sets)


def bench(
    files: Iterable[PathLike], data: str, out: PathLike, *, model: str, log: Log | None = None,
    **settings: Any,
) -> Artifact:  # fmt: skip
    """Measure a model and files, each in its own runtime, against the model."""
    paths = [Path(file) for file in files]
    inputs = {"export": adopt_files(paths)} if paths else {}
    return run_stage("bench", inputs, Path(out), {"model": model, "data": data, **settings}, log)


def verify(
    reference: str,
    candidate: str,
    data: PathLike | None = None,
    *,
    tokens: int = 4096,
    log: Log | None = None,
) -> Comparison:
    """Compare a candidate with a reference: tokenizer, template, stopping and weights.

    Args:
        reference: Hugging Face folder, ``DIR+ADAPTER``, GGUF file, ONNX folder or an artifact.
        candidate: the same.
        data: rows to compare on; absent: built-in prose and the reference's own answers.
        tokens: compare on at most so many tokens.
        log: absent: nothing on stderr.
    """
    from edgetune.compare.model_spec import resolve_spec
    from edgetune.diagnose.verify import verify_pair

    pair = (resolve_spec(reference), resolve_spec(candidate))
    rows = read_question(None if data is None else Path(data), tokens)
    return verify_pair(*pair, rows, log or Log(quiet=True))


def load(path: PathLike, threads: int | None = None, device: str = "cpu") -> Runtime:
    """Load a GGUF file, an ONNX folder or a Hugging Face folder in the runtime of its kind.

    ``generate_text`` answers a conversation or a prompt; ``tokenize``, ``generate`` and ``logits``
    work with token ids.
    """
    from edgetune.runtimes import GENAI_CONFIG, open_runtime

    given = Path(path)
    if (given / ENTRY).is_file():
        given = open_artifact(given).model_folder
    if (given / GENAI_CONFIG).is_file():
        from edgetune.runtimes.genai_folder import find_graph
        from edgetune.runtimes.onnx_header import open_onnx

        open_onnx(find_graph(given))  # what it names outside its folder is refused
    return open_runtime(given, threads, device)


def distill_inputs(
    teacher: Path | None, settings: Mapping[str, Any]
) -> tuple[dict[str, Artifact], dict[str, Any]]:
    """Return the inputs and settings of `distill` by what the teacher is.

    A model folder or a GGUF file is named in the recipe; what `tune` made, or a PEFT adapter, is
    an input.
    """
    flags = dict(settings)
    if teacher is None:
        raise InputError(
            "--teacher is missing",
            where="command line",
            hint="name what `edgetune tune` made, a PEFT adapter, a model folder or a GGUF file",
        )
    if (model := _find_model(teacher)) is not None:
        flags["teacher"] = str(model)
        flags["model"] = flags.get("model") or flags.get("student.path") or str(model)
        return {}, flags
    return {"tune": adopt_adapter(teacher, flags.get("model"))}, flags


def _find_model(path: Path) -> Path | None:
    """Return a GGUF file, a model folder, or the model inside a merge's folder; None for others."""
    if path.suffix == ".gguf" or (path / "config.json").is_file():
        return path
    if (path / ENTRY).is_file() and (artifact := open_artifact(path)).kind == "model":
        return artifact.model_folder
    return None


def open_model(path: str | None) -> tuple[Artifact, str]:
    """Return a model as an artifact, and the model folder that the recipe names."""
    if not path:
        raise InputError(
            "--model is missing",
            where="command line",
            hint="name a model folder, or what `edgetune merge` made",
        )
    artifact = adopt_model(path)
    made = (artifact.path / ENTRY).is_file()
    return artifact, str(artifact.model_folder) if made else path


def run_stage(
    name: str,
    inputs: dict[str, Artifact],
    out: Path,
    settings: Mapping[str, Any],
    log: Log | None = None,
    overrides: Sequence[str] = (),
) -> Artifact:
    """Run one stage into ``out``; ``settings`` are recipe keys, as the module's text says."""
    from edgetune import pipeline

    flags = dict(settings)
    flags["model"] = flags.get("model") or base_of(inputs)
    recipe, _ = stage_recipe(name, None, overrides, flags)
    return pipeline.run_alone(name, recipe, inputs, out, log or Log(quiet=True))


def read_question(data: Path | None, tokens: int) -> Question:
    """Return what two models are asked: rows of a file, or built-in prose without one."""
    from edgetune.compare.checks import Question

    if data is None:
        return Question((), tokens)
    from edgetune.data.load import load_rows
    from edgetune.data.sources import open_source

    section = DataSection(train=str(data))
    loaded = load_rows(open_source(str(data), "data"), section, Log(quiet=True), "data")
    # Runtimes render roles and contents: rows with tool calls are left out there, and counted.
    return Question(tuple(loaded.rows), tokens)
