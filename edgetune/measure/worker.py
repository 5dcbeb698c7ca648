"""Measure one model in this process: ``python -m edgetune.measure.worker job.json``.

Latency and peak memory come first, before the quality part grows the process. Only the runtime of
the model is imported, so that peak memory is what running the model takes. The job's keys are those
that :func:`edgetune.measure.run.measure_subjects` writes; the result lies in ``job["result"]``.
"""

from __future__ import annotations

import ctypes
import json
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edgetune.artifact import hash_json
from edgetune.disk import write_atomic
from edgetune.errors import EdgetuneError
from edgetune.measure.classifier_job import run_classifier
from edgetune.measure.latency import measure_decode_from_start, measure_running
from edgetune.measure.memorization import measure_exposure
from edgetune.measure.quality import Scores, score_rows
from edgetune.measure.reference import ReferenceLogProbs
from edgetune.measure.requests import run_requests
from edgetune.measure.statistics import Estimate
from edgetune.measure.variants import measure_variants
from edgetune.measure.vram import VramMeter
from edgetune.models.ref import ModelRef
from edgetune.runtimes import Runtime, find_opener
from edgetune.runtimes.likelihood import score_continuations

DEPTH_0 = "decode_tokens_per_s_depth_0"
TIMED = ("ttft_", "tpot_", "prefill_", "decode_")  # what depends on how long the prompt is
DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_OTHER_JOBS = {"kinds": run_requests, "classifier": run_classifier}  # by the key that they have


@dataclass(frozen=True)
class _Row:
    ids: list[int]
    trained: list[bool]


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Return ``measurements``, ``answers`` (generated ids of each prompt) and ``variants``."""
    given = json.loads(Path(job["workload"]).read_text(encoding="utf-8"))
    model = Path(job["model"]) if "model" in job else ModelRef.from_json(job["ref"], Path())

    # 1. Load, without the imports before it; latency, and the memory it took.
    opener: Callable[..., Runtime] = find_opener(model)
    kv_cache = job.get("kv_cache")
    if kv_cache is not None:
        opener = partial(opener, kv_cache=kv_cache)
    if "adapter" in job:
        opener = partial(opener, adapter=Path(job["adapter"]))
    if "dtype" in job:
        opener = partial(opener, dtype=job["dtype"])
    with VramMeter() if job["device"] == "cuda" else nullcontext() as vram:
        runtime, figures = measure_running(
            partial(opener, job["threads"], job["device"]),
            given["latency_prompt"], job["new_tokens"], job["repeats"],
        )  # fmt: skip
    if vram is not None and vram.source:
        figures["peak_vram_bytes"] = (Estimate(vram.peak, 1), "bytes")
    timed = given["latency_prompt"], job["new_tokens"], job["repeats"]
    figures[DEPTH_0] = (measure_decode_from_start(runtime, *timed), "tokens/s")

    # 2. Answers to the questions, and scores of what the answers should have been.
    answers = runtime.generate(given["prompts"], job["max_new_tokens"], given["stop_ids"])
    likelihoods = _score_labels(runtime, given) if given.get("labels") else []
    references = {name: ReferenceLogProbs(Path(path)) for name, path in job["references"].items()}
    keep = Path(job["keep"]) if job["keep"] else None
    rows = [_Row(**row) for row in given["scored"]]
    scores = score_rows(runtime, rows, references, keep)
    figures |= _quality(scores, given.get("scored_bytes", ()))
    if given.get("canaries"):
        figures["canary_exposure"] = (_measure_canaries(runtime, given["canaries"]), "bits")
    variants = measure_variants(
        runtime, given.get("variants", []) if kv_cache is None else [], job["max_new_tokens"],
        given["stop_ids"],
    )  # fmt: skip
    measurements = [_measurement(name, *figure, runtime) for name, figure in figures.items()]
    for measurement in measurements:
        if measurement["name"] == "perplexity":
            measurement["rows"] = scores.row_losses()
            measurement["rows_sha256"] = hash_json(given["scored"])
        if measurement["name"].startswith(TIMED):
            asked = 1 if measurement["name"] == DEPTH_0 else len(given["latency_prompt"])
            measurement["where"] |= {"prompt_tokens": asked, "new_tokens": job["new_tokens"]}
        if kv_cache is not None:
            measurement["where"]["kv_cache"] = kv_cache
        if "dtype" in job:
            measurement["where"]["dtype"] = job["dtype"]
        if vram is not None and measurement["name"] == "peak_vram_bytes":
            measurement["where"]["vram"] = vram.source
    runtime.close()
    return {
        "measurements": measurements,
        "answers": answers,
        "label_log_probs": likelihoods,
        "variants": variants,
    }


def _score_labels(runtime: Runtime, given: dict[str, Any]) -> list[list[float]]:
    """Return the log likelihood of each label after each of the first prompts, in nats."""
    labels, prompts = given["labels"], given["prompts"][: given["labelled"]]
    requests = [(prompt, label) for prompt in prompts for label in labels]
    found = [log_prob for log_prob, _ in score_continuations(runtime, requests)]
    return [found[at : at + len(labels)] for at in range(0, len(found), len(labels))]


def _measure_canaries(runtime: Runtime, canaries: list[list[dict[str, Any]]]) -> Estimate:
    rows = [_Row(**row) for candidates in canaries for row in candidates]
    nll = score_rows(runtime, rows).nll_sums
    size = len(canaries[0])
    return measure_exposure([nll[at : at + size] for at in range(0, len(nll), size)])


def _quality(scores: Scores, sizes: Sequence[int]) -> dict[str, tuple[Estimate, str]]:
    figures = {"perplexity": (scores.perplexity(), "")}
    if bits := scores.bits_per_byte(sizes):
        figures["bits_per_byte"] = (bits, "bits")
    for name in scores.comparisons:
        suffix = "" if name == "teacher" else f"_to_{name}"
        figures[f"kl_answer_tokens{suffix}"] = (scores.mean_kl(name), "nats")
        if not suffix:
            figures["kl_answer_tokens_p99"] = (scores.kl_p99(name), "nats")
        figures[f"top1_answer_tokens{suffix}"] = (scores.top1_agreement(name), "")
    return figures


def _measurement(name: str, estimate: Estimate, unit: str, runtime: Runtime) -> dict[str, Any]:
    return {
        "name": name,
        "value": estimate.value,
        "unit": unit,
        "n": estimate.n,
        "ci95": None if estimate.ci95 is None else list(estimate.ci95),
        "where": {"runtime": runtime.name, "device": runtime.device, "threads": runtime.threads},
    }


def die_with_parent() -> None:
    """Have the system kill this process when its parent ends: no worker outlives it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGKILL)


def main(arguments: Sequence[str]) -> int:
    """Run the job file named by the one argument; return the exit code."""
    die_with_parent()
    job = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    try:
        run = next((one for key, one in _OTHER_JOBS.items() if key in job), run_job)
        result = run(job)
    except EdgetuneError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    write_atomic(Path(job["result"]), json.dumps({"job": job, **result}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
