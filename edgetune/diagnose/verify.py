"""Compare two models: the four checks in their runtimes, then the files for the cause."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgetune.compare.adapter_base import compare_on_both_bases
from edgetune.compare.checks import Question
from edgetune.compare.comparison import CHECKS, Check, Comparison
from edgetune.compare.loaded import load_pair
from edgetune.compare.logits import TokenizedText
from edgetune.compare.model_spec import ModelSpec
from edgetune.compare.run import run_checks
from edgetune.compare.verdict import decide
from edgetune.diagnose.faults import find_faults
from edgetune.diagnose.requantize import measure_requantized
from edgetune.errors import EdgetuneError
from edgetune.log import Log, counted


def verify_pair(
    reference: ModelSpec, candidate: ModelSpec, question: Question, log: Log
) -> Comparison:
    """Return the verdict on ``candidate``, compared with ``reference``.

    Raises:
        InputError: a model that cannot be read.
        EdgetuneError: a runtime that fails on it.
    """
    crash: EdgetuneError | None = None
    notes: list[str] = []
    if question.left_out:
        notes.append(
            f"{question.left_out} of {counted(len(question.rows), 'row')} left out: they have tool "
            "calls, tools or reasoning, which export compares by token ids"
        )
    evaluated: list[TokenizedText] = []
    try:
        with load_pair(reference, candidate) as (first, second):
            checks, evaluated = run_checks(first, second, question, log)
    except EdgetuneError as error:
        # The candidate may lie in the reference's folder or around it: the longer path is meant.
        models = [model for model in (reference, candidate) if str(model.folder) in error.where]
        if not models or max(models, key=lambda model: len(str(model.folder))) is not candidate:
            raise
        crash, checks = error, _unrunnable(error)
    if (reference.unsure or candidate.unsure) and evaluated:
        reference, candidate, checks[-1], note = compare_on_both_bases(
            reference, candidate, checks[-1], evaluated
        )
        notes.append(note)
    with tempfile.TemporaryDirectory(prefix="edgetune-verify-") as scratch:
        folder = Path(scratch)
        faults = find_faults(reference, candidate, checks, folder, crash is not None)

        def measure_own() -> float | None:
            return (
                measure_requantized(reference, candidate, evaluated, folder) if evaluated else None
            )

        checks[-1], faults, remarks = decide(reference, candidate, checks[-1], faults, measure_own)
    if crash is not None and not faults:
        raise crash
    kind = "lossless" if reference.lossless and candidate.lossless else "lossy"
    return Comparison(
        reference.to_json(), candidate.to_json(), kind, checks, faults, [*notes, *remarks]
    )


def _unrunnable(error: EdgetuneError) -> list[Check]:
    """Return the checks of a model that its runtime refuses or dies of: its file may say why."""
    checks = [Check(name, None, "not measured: the candidate does not run") for name in CHECKS[:-1]]
    return [*checks, Check("weights", False, error.what)]
