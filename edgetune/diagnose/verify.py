"""Compare two models: the four checks in their runtimes, then the files for the cause."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgetune.compare import probes
from edgetune.compare.adapter_base import ask_both_bases
from edgetune.compare.bits_per_byte import compare_texts
from edgetune.compare.checks import (
    Question,
    check_stopping,
    check_template,
    check_tokenizer,
    check_weights,
)
from edgetune.compare.comparison import CHECKS, Check, Comparison
from edgetune.compare.loaded import Side, attempt, open_sides
from edgetune.compare.logits import Answers, Judged, ask, judge_texts
from edgetune.compare.model_spec import Subject
from edgetune.compare.verdict import weigh
from edgetune.data.rows import Row
from edgetune.diagnose.faults import find_faults
from edgetune.diagnose.requantize import measure_own_copy
from edgetune.errors import EdgetuneError
from edgetune.log import Log

PROMPTS = 8  # greedy answers a side
ROW_TEXTS = 24  # of the user's rows, added to the tokenizer's probes


def verify_pair(a: Subject, b: Subject, question: Question, log: Log) -> Comparison:
    """Return the verdict on ``b``, held against ``a``.

    Raises:
        InputError: a model that cannot be read.
        EdgetuneError: a runtime that fails on it.
    """
    crash: EdgetuneError | None = None
    notes: list[str] = []
    judged: list[Judged] = []
    try:
        with open_sides(a, b) as (first, second):
            checks, judged = run_checks(first, second, question, log)
    except EdgetuneError as error:
        # A file of b may lie in a's folder, and the other way round: the longer path is meant.
        told = [one for one in (a, b) if str(one.folder) in error.where]
        if not told or max(told, key=lambda one: len(str(one.folder))) is not b:
            raise
        crash, checks = error, _unrunnable(error)
    if (a.unsure or b.unsure) and judged:
        a, b, checks[-1], said = ask_both_bases(a, b, checks[-1], judged)
        notes.append(said)
    with tempfile.TemporaryDirectory(prefix="edgetune-verify-") as scratch:
        folder = Path(scratch)
        faults = find_faults(a, b, checks, folder, crash is not None)

        def measure_own() -> float | None:
            return measure_own_copy(a, b, judged, folder) if judged else None

        checks[-1], faults, seen = weigh(a, b, checks[-1], faults, measure_own)
    if crash is not None and not faults:
        raise crash
    kind = "lossless" if a.lossless and b.lossless else "lossy"
    return Comparison(a.to_json(), b.to_json(), kind, checks, faults, [*notes, *seen])


def _unrunnable(error: EdgetuneError) -> list[Check]:
    """Return the checks of a model that its runtime refuses or dies of: its file may say why."""
    checks = [Check(name, None, "not asked: the second model does not run") for name in CHECKS[:-1]]
    return [*checks, Check("weights", False, error.what)]


def run_checks(a: Side, b: Side, question: Question, log: Log) -> tuple[list[Check], list[Judged]]:
    """Return the four checks of two loaded models, and the ids that the weights were judged on."""
    texts, conversations = _of_rows(question.rows[:ROW_TEXTS])
    with log.progress("verify", 4) as bar:
        tokenizer = check_tokenizer(a, b, texts)
        bar.update(1, now="template")
        template = check_template(a, b, conversations)
        prompts = _prompts(a, question.rows)
        bar.update(1, now="stopping")
        answers = ask(a, b, prompts) if _same_vocabulary(a, b) else Answers()
        stopping = check_stopping(a, b, answers if tokenizer.ok else Answers())
        bar.update(1, now="weights")
        if _same_vocabulary(a, b):
            judged = judge_texts(a, question.rows, answers, question.tokens)
            weights = check_weights(a, b, judged, answers)
        else:
            judged, weights = [], compare_texts(a, b, question)
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


def _prompts(a: Side, rows: Sequence[Row]) -> list[list[int]]:
    """Return prompts to answer: the user's own, or the built-in conversations."""
    _, conversations = _of_rows(rows[:PROMPTS])
    found = []
    for messages in [*conversations, *probes.CONVERSATIONS][:PROMPTS]:
        text, _ = attempt(a.render, messages)
        ids = attempt(a.tokenize, text)[0] if text else None
        if ids:
            found.append(ids)
    if not found:  # a model without a template goes on with prose
        texts = [row.text for row in rows[:PROMPTS] if row.text] or list(probes.PROSE)
        for text in texts[:PROMPTS]:
            ids = attempt(a.tokenize, text)[0]
            if ids and len(ids) > 1:
                found.append(ids[: max(1, len(ids) // 2)])
    return found


def _same_vocabulary(a: Side, b: Side) -> bool:
    """Whether an id means the same in both, so that their distributions can be compared.

    Sizes may differ by padding (151,936 against 152,064); the texts of the ids may not.
    """
    words_a, words_b = a.pieces, b.pieces
    if words_a is None or words_b is None:
        return True
    common = min(len(words_a), len(words_b))
    if common < 0.9 * max(len(words_a), len(words_b)):
        return False
    differing = sum(x != y for x, y in zip(words_a, words_b, strict=False))
    return differing <= common // 50
