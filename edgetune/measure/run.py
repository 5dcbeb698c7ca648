"""Measure models one after another, each in a fresh process, on the same work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgetune.artifact import hash_json
from edgetune.disk import write_atomic
from edgetune.errors import EdgetuneError, InputError
from edgetune.facts import MeasuredModel, Measurement, NotMeasured
from edgetune.log import Log
from edgetune.measure.devices import Devices, find_narrow_dtype
from edgetune.measure.quality import exact_answers
from edgetune.measure.statistics import proportion
from edgetune.measure.subject import Subject, Workload, name_results
from edgetune.measure.workers import Workers, describe_end
from edgetune.models.hardware import count_threads
from edgetune.models.ref import ModelRef
from edgetune.recipe import BenchSection
from edgetune.runtimes.gpu import PROVIDER, REMEDIES, find_gpu_fault
from edgetune.runtimes.kv_cache import find_kv_fault

WORKLOAD = "workload.json"
CPU_ALONE = Devices()
# What is measured again with another type of KV cache, marked by it in ``where``.
CACHE_FIGURES = (
    "exact_match", "kl_answer_tokens", "kl_answer_tokens_to_merged", "top1_answer_tokens",
    "decode_tokens_per_s", "peak_rss_bytes",
)  # fmt: skip


def measure_subjects(
    subjects: Sequence[Subject],
    workload: Workload,
    section: BenchSection,
    scratch: Path,
    log: Log,
    devices: Devices = CPU_ALONE,
) -> list[MeasuredModel]:
    """Measure every subject and return the report's entries, in the order given.

    Divergences are to the subject whose role is ``teacher`` (to the base, if there is no teacher),
    and those of files also to the one whose role is ``merged``. Those two are measured first and
    leave their log probabilities in ``scratch``, as does every finished subject its result, so that
    an interrupted call goes on.

    Args:
        subjects: models with names of their own.
        workload: what they are asked.
        section: how long and how often.
        scratch: folder for jobs, results and reference log probabilities.
        log: gets a bar, and an event per subject.
        devices: where models and files run; absent: on the CPU. What a GPU cannot run is listed as
            not measured there, with the reason.

    Raises:
        InputError: two subjects of one name, or a model that cannot be loaded.
        EdgetuneError: a worker died; it names the model and quotes its last words.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    subjects = name_results(subjects)
    names = _check_names(subjects)
    work = json.dumps(workload.to_json())
    write_atomic(scratch / WORKLOAD, work)
    digest = {"workload_sha256": hashlib.sha256(work.encode()).hexdigest()}
    keepers = _find_references(subjects)
    order = sorted(subjects, key=lambda s: s not in keepers.values())
    pairs = [(s, device) for s in order for device in devices.of(s.format)]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    missing: dict[str, list[NotMeasured]] = {name: [] for name in names}
    threads = section.threads or count_threads()
    with log.progress("models", len(pairs)) as bar, Workers(threads) as workers:
        for subject, device in pairs:
            is_first = device == devices.of(subject.format)[0]
            job = make_job(subject, device, section, scratch)
            job |= _job_references(subject, keepers, scratch, is_first) | digest
            _warn_of_dtype(subject, job, log)
            measurements, why = _try_measure(subject, job, workload, scratch, workers)
            if why:
                missing[subject.name].append(NotMeasured(device, why))
                log.warn(f"{subject.name} is not measured on {device}: {why}")
            for kv_cache in _find_caches(subject, section, log) if is_first and not why else ():
                again = {**job, "kv_cache": kv_cache, "keep": None}
                again["result"] = str(Path(job["result"]).with_suffix(f".{kv_cache}.json"))
                through = _measure(subject, again, workload, scratch, workers)
                measurements = [*measurements, *(m for m in through if m["name"] in CACHE_FIGURES)]
            found[subject.name] += measurements
            if not why:
                log.event("measured", model=subject.name, measurements=measurements)
            bar.update(1, now=subject.name)
    return [_entry(s, found[s.name], missing[s.name]) for s in subjects]


def _warn_of_dtype(subject: Subject, job: dict[str, Any], log: Log) -> None:
    if "dtype" in job:
        log.warn(
            f"{subject.name} is measured in {job['dtype']}: in float32 its weights do not fit this "
            "machine's memory"
        )


def _check_names(subjects: Sequence[Subject]) -> list[str]:
    names = [subject.name for subject in subjects]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"two models are called '{twice}'", where="bench", hint="rename one")
    return names


def _find_caches(subject: Subject, section: BenchSection, log: Log) -> list[str]:
    """Return the further types of KV cache that a subject is measured with."""
    if subject.format != "gguf":
        return []
    usable: list[str] = []
    for kv_cache in dict.fromkeys(section.kv_cache):
        fault = find_kv_fault(subject.path, kv_cache)
        if fault:
            log.warn(f"{subject.name} has no {kv_cache} cache: {fault}")
        elif kv_cache != "f16":
            usable.append(kv_cache)
    return usable


def _find_references(subjects: Sequence[Subject]) -> dict[str, Subject]:
    """Return the subjects that are ``teacher`` and ``merged``."""
    by_role = {subject.role: subject for subject in reversed(subjects)}
    teacher = by_role.get("teacher") or by_role.get("base")
    merged = by_role.get("merged")
    return {k: v for k, v in (("teacher", teacher), ("merged", merged)) if v}


def make_job(subject: Subject, device: str, section: BenchSection, scratch: Path) -> dict[str, Any]:
    """Return the worker's job, as :func:`edgetune.measure.worker.run_job` reads it."""
    model = subject.model
    where: dict[str, Any] = {"model": str(model)}
    if subject.adapter is not None:
        where["adapter"] = str(subject.adapter)
    if isinstance(model, ModelRef):
        where = {"ref": model.to_json(Path())}
        dtype = find_narrow_dtype(model, device)
        if dtype is not None:
            where["dtype"] = dtype
    return {
        **where,
        "sha256": subject.sha256,
        "device": device,
        "threads": section.threads or count_threads(),
        "new_tokens": section.new_tokens,
        "repeats": section.repeats,
        "max_new_tokens": section.max_new_tokens,
        "workload": str(scratch / WORKLOAD),
        "result": str(_result_path(subject, device, scratch)),
    }


def find_answers(
    subject: Subject, section: BenchSection, scratch: Path, devices: Devices = CPU_ALONE
) -> dict[str, Any]:
    """Return what a measured subject answered, on the first device that it ran on.

    Args:
        subject: as :func:`~edgetune.measure.subject.name_results` returns it.
        section: that it was measured by.
        scratch: folder of the results.
        devices: that it was measured on.

    Returns:
        ``answers`` (token ids of each) and ``label_log_probs``.
    """
    for device in devices.of(subject.format):
        path = Path(make_job(subject, device, section, scratch)["result"])
        if path.is_file():
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return found
    return {"answers": [], "label_log_probs": []}


def _job_references(
    subject: Subject, keepers: dict[str, Subject], scratch: Path, is_first: bool
) -> dict[str, Any]:
    """Return the files of log probabilities that a job reads and, on its first device, keeps.

    A reference that was not measured, as it did not fit a GPU, has none.
    """
    references = {
        reference: str(path)
        for reference, keeper in keepers.items()
        if keeper.name != subject.name and (reference == "teacher" or subject.role == "file")
        if (path := _log_probs(keeper, scratch)).is_file()
    }
    keeps = is_first and subject in keepers.values()
    keep = str(_log_probs(subject, scratch)) if keeps else None
    return {"references": references, "keep": keep}


def _try_measure(
    subject: Subject, job: dict[str, Any], workload: Workload, scratch: Path, workers: Workers
) -> tuple[list[dict[str, Any]], str]:
    """Return the measurements, or why there are none: the GPU or its software cannot run it."""
    on_gpu = job["device"] == "cuda"
    if on_gpu and (fault := find_gpu_fault(subject.format)):
        return [], f"{fault}; {REMEDIES[subject.format]}"
    try:
        return _measure(subject, job, workload, scratch, workers), ""
    except EdgetuneError as error:
        if on_gpu and "out of memory" in str(error).lower():
            return [], "the GPU's memory is too small for it"
        if on_gpu and PROVIDER in str(error):
            return [], f"ONNX Runtime does not start its {PROVIDER}; {REMEDIES['onnx']}"
        raise


def _measure(
    subject: Subject, job: dict[str, Any], workload: Workload, scratch: Path, workers: Workers
) -> list[dict[str, Any]]:
    """Run the job, if its result is not there from before, and score its answers."""
    path = Path(job["result"])
    result = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if result.get("job") != job or (job["keep"] and not Path(job["keep"]).is_file()):
        run_worker(subject, job, scratch, workers)
        result = json.loads(path.read_text(encoding="utf-8"))
    measurements: list[dict[str, Any]] = result["measurements"]
    if not workload.expected:
        return measurements
    answers = [workload.encoder.decode_answer(ids) for ids in result["answers"]]
    where = {k: v for k, v in measurements[0]["where"].items() if not k.endswith("_tokens")}
    pairs = list(zip(answers, workload.expected, strict=True))
    scores = [_score("exact_match", pairs, where)]
    clean = [pair for pair, leaked in zip(pairs, workload.leaked, strict=True) if not leaked]
    if 0 < len(clean) < len(pairs):
        scores.append(_score("exact_match_without_leaks", clean, where))
    return [*scores, *measurements]


def read_variants(subject: Subject, devices: Devices, scratch: Path) -> list[dict[str, Any]]:
    """Return what a measured subject did with ``workload.variants`` on its first device."""
    path = _result_path(subject, devices.of(subject.format)[0], scratch)
    result = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return list(result.get("variants", []))


def _result_path(subject: Subject, device: str, scratch: Path) -> Path:
    return scratch / f"{subject.file_stem}.{device}.json"


def _score(name: str, pairs: Sequence[tuple[str, str]], where: dict[str, Any]) -> dict[str, Any]:
    """Return the fraction of answers that are the expected ones, as a measurement."""
    right = exact_answers([answer for answer, _ in pairs], [wanted for _, wanted in pairs])
    match = proportion(sum(right), len(right))
    return {
        "name": name,
        "value": match.value,
        "unit": "",
        "n": match.n,
        "ci95": list(match.ci95 or ()),
        "where": where,
        "rows": [float(one) for one in right],
        "rows_sha256": hash_json([wanted for _, wanted in pairs]),
    }


def run_worker(subject: Subject, job: dict[str, Any], scratch: Path, workers: Workers) -> None:
    file = Path(job["result"]).with_suffix(".job.json")
    write_atomic(file, json.dumps(job))
    stderr = file.with_suffix(".stderr")
    # CUDA cannot be used in the fork of a process that may have asked for it.
    run = workers.fork if subject.format == "hf" and job["device"] == "cpu" else workers.run
    code = run(file, stderr)
    if code != 0:
        raise describe_end(subject.name, subject.path, code, stderr.read_text(errors="replace"))


def _entry(
    subject: Subject, measurements: list[dict[str, Any]], missing: list[NotMeasured]
) -> MeasuredModel:
    return MeasuredModel(
        subject.name,
        subject.role,
        subject.format,
        subject.scheme,
        str(subject.path),
        subject.sha256,
        subject.bytes,
        [Measurement(**one) for one in measurements],
        missing or None,
    )


def _log_probs(subject: Subject, scratch: Path) -> Path:
    return scratch / f"{subject.file_stem}.log_probs.npy"
