"""Run the four checks on two loaded models, in the order in which a failure decides."""

from __future__ import annotations

from collections.abc import Sequence

from edgetune.compare import probes
from edgetune.compare.bits_per_byte import compare_texts
from edgetune.compare.checks import (
    Question,
    check_stopping,
    check_template,
    check_tokenizer,
    check_weights,
)
from edgetune.compare.comparison import Check
from edgetune.compare.loaded import LoadedModel, attempt
from edgetune.compare.logits import GreedyAnswers, TokenizedText, generate_pair, select_texts
from edgetune.data.rows import Row
from edgetune.log import Log

PROMPTS = 8  # greedy answers per model
ROW_TEXTS = 24  # of the user's rows, added to the tokenizer's probes


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
            evaluated = select_texts(reference, rows, answers, question.tokens)
            weights = check_weights(reference, candidate, evaluated, answers)
        else:
            evaluated, weights = [], compare_texts(reference, candidate, question)
        bar.update(1, now="done")
    return [tokenizer, template, stopping, weights], evaluated


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
    prompts = []
    for messages in [*conversations, *probes.CONVERSATIONS][:PROMPTS]:
        text, _ = attempt(reference.render, messages)
        ids = attempt(reference.tokenize, text)[0] if text else None
        if ids:
            prompts.append(ids)
    if not prompts:  # a model without a template continues prose
        texts = [row.text for row in rows[:PROMPTS] if row.text] or list(probes.PROSE)
        for text in texts[:PROMPTS]:
            ids = attempt(reference.tokenize, text)[0]
            if ids and len(ids) > 1:
                prompts.append(ids[: max(1, len(ids) // 2)])
    return prompts


def _same_vocabulary(reference: LoadedModel, candidate: LoadedModel) -> bool:
    """Whether ids are the same tokens in both models, so that distributions can be compared.

    Sizes may differ by padding (151,936 against 152,064); the texts of the ids may not.
    """
    pieces_reference, pieces_candidate = reference.pieces, candidate.pieces
    if pieces_reference is None or pieces_candidate is None:
        return True
    common = min(len(pieces_reference), len(pieces_candidate))
    if common < 0.9 * max(len(pieces_reference), len(pieces_candidate)):
        return False
    differing = sum(x != y for x, y in zip(pieces_reference, pieces_candidate, strict=False))
    return differing <= common // 50
