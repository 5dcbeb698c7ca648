"""Compare two models: the four checks in their runtimes, then the files for the cause."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgetune.compare import probes
from edgetune.compare.adapter_base import compare_on_both_bases
from edgetune.compare.bits_per_byte import compare_texts
from edgetune.compare.checks import (
    Question,
    check_stopping,
    check_template,
    check_tokenizer,
    check_weights,
)
from edgetune.compare.comparison import CHECKS, Check, Comparison
from edgetune.compare.loaded import LoadedModel, attempt, load_pair
from edgetune.compare.logits import GreedyAnswers, TokenizedText, generate_pair, select_texts
from edgetune.compare.model_spec import ModelSpec
from edgetune.compare.verdict import decide
from edgetune.data.rows import Row
from edgetune.diagnose.faults import find_faults
from edgetune.diagnose.requantize import measure_requantized
from edgetune.errors import EdgetuneError
from edgetune.log import Log, counted

PROMPTS = 8  # greedy answers a side
ROW_TEXTS = 24  # of the user's rows, added to the tokenizer's probes


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
    judged: list[TokenizedText] = []
    try:
        with load_pair(reference, candidate) as (first, second):
            checks, judged = run_checks(first, second, question, log)
    except EdgetuneError as error:
        # A file of b may lie in a's folder, and the other way round: the longer path is meant.
        told = [one for one in (reference, candidate) if str(one.folder) in error.where]
        if not told or max(told, key=lambda one: len(str(one.folder))) is not candidate:
            raise
        crash, checks = error, _unrunnable(error)
    if (reference.unsure or candidate.unsure) and judged:
        reference, candidate, checks[-1], said = compare_on_both_bases(
            reference, candidate, checks[-1], judged
        )
        notes.append(said)
    with tempfile.TemporaryDirectory(prefix="edgetune-verify-") as scratch:
        folder = Path(scratch)
        faults = find_faults(reference, candidate, checks, folder, crash is not None)

        def measure_own() -> float | None:
            return measure_requantized(reference, candidate, judged, folder) if judged else None

        checks[-1], faults, seen = decide(reference, candidate, checks[-1], faults, measure_own)
    if crash is not None and not faults:
        raise crash
    kind = "lossless" if reference.lossless and candidate.lossless else "lossy"
    return Comparison(
        reference.to_json(), candidate.to_json(), kind, checks, faults, [*notes, *seen]
    )


def _unrunnable(error: EdgetuneError) -> list[Check]:
    """Return the checks of a model that its runtime refuses or dies of: its file may say why."""
    checks = [Check(name, None, "not measured: the candidate does not run") for name in CHECKS[:-1]]
    return [*checks, Check("weights", False, error.what)]


def run_checks(
    reference: LoadedModel, candidate: LoadedModel, question: Question, log: Log
) -> tuple[list[Check], list[TokenizedText]]:
    """Return the four checks of two loaded models, and the texts the weights were evaluated on."""
    rows = question.plain_rows
    texts, conversations = _of_rows(rows[:ROW_TEXTS])
    with log.progress("verify", 4) as bar:
        tokenizer = check_tokenizer(reference, candidate, texts)
        bar.update(1, now="template")
        template = check_template(reference, candidate, conversations)
        prompts = _prompts(reference, rows)
        bar.update(1, now="stopping")
        comparable = _same_vocabulary(reference, candidate)
        answers = generate_pair(reference, candidate, prompts) if comparable else GreedyAnswers()
        valid = answers if tokenizer.ok else GreedyAnswers()
        stopping = check_stopping(reference, candidate, valid)
        bar.update(1, now="weights")
        if comparable:
            judged = select_texts(reference, rows, answers, question.tokens)
            weights = check_weights(reference, candidate, judged, answers)
        else:
            judged, weights = [], compare_texts(reference, candidate, question)
        bar.update(1, now="done")
    return [tokenizer, template, stopping, weights], judged


def _of_rows(rows: Sequence[Row]) -> tuple[list[str], list[list[dict[str, str]]]]:
    texts = [row.text if row.text is not None else row.answer for row in rows]
    conversations = [
        [{"role": m.role, "content": m.content} for m in row.messages[:-1]]
        for row in rows
        if row.text is None
    ]
    return [text for text in texts if text], conversations


def _prompts(reference: LoadedModel, rows: Sequence[Row]) -> list[list[int]]:
    """Return prompts to answer: the user's own, or the built-in conversations."""
    _, conversations = _of_rows(rows[:PROMPTS])
    found = []
    for messages in [*conversations, *probes.CONVERSATIONS][:PROMPTS]:
        text, _ = attempt(reference.render, messages)
        ids = attempt(reference.tokenize, text)[0] if text else None
        if ids:
            found.append(ids)
    if not found:  # a model without a template goes on with prose
        texts = [row.text for row in rows[:PROMPTS] if row.text] or list(probes.PROSE)
        for text in texts[:PROMPTS]:
            ids = attempt(reference.tokenize, text)[0]
            if ids and len(ids) > 1:
                found.append(ids[: max(1, len(ids) // 2)])
    return found


def _same_vocabulary(reference: LoadedModel, candidate: LoadedModel) -> bool:
    """Whether an id means the same in both, so that their distributions can be compared.

    Sizes may differ by padding (151,936 against 152,064); the texts of the ids may not.
    """
    words_reference, words_candidate = reference.pieces, candidate.pieces
    if words_reference is None or words_candidate is None:
        return True
    common = min(len(words_reference), len(words_candidate))
    if common < 0.9 * max(len(words_reference), len(words_candidate)):
        return False
    differing = sum(x != y for x, y in zip(words_reference, words_candidate, strict=False))
    return differing <= common // 50
