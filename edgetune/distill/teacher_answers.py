"""Answers that the teacher writes: rows without labels become rows to learn from.

(Sequence-level distillation: Kim and Rush 2016, arXiv 1606.07947, section 3.2, with greedy decoding
instead of beam search.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from edgetune.data.encode import Encoder
from edgetune.data.encoded import Encoded
from edgetune.data.rows import Message, Row
from edgetune.log import Log

GROUP = 256  # prompts between two writes: what a kill can cost

#: Prompts, longest answer, ids that end one → answers without them.
Generate = Callable[[Sequence[Sequence[int]], int, Sequence[int]], list[list[int]]]


def write_answers(
    generate: Generate, encoder: Encoder, rows: Sequence[Row], longest: int, path: Path, log: Log
) -> list[list[int]]:
    """Return the teacher's greedy answer to each row's prompt, as ids with the end token last.

    An answer that did not end has no end token. What is in ``path`` already is not asked again; the
    file is of these rows alone, because the stage's key says which they are.
    """
    done: list[list[int]] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                done.append(json.loads(line))
            except ValueError:
                break  # the last line of a killed run
    done = done[: len(done) - len(done) % GROUP] if len(done) < len(rows) else done[: len(rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(ids)}\n" for ids in done), encoding="utf-8")
    with log.progress("answers", len(rows)) as bar, path.open("a", encoding="utf-8") as file:
        bar.skip(len(done))
        while len(done) < len(rows):
            group = rows[len(done) : len(done) + GROUP]
            answers = generate([encoder.prompt(row) for row in group], longest, encoder.stop_ids)
            for ids in answers:
                ended = len(ids) < longest
                done.append([*ids, encoder.end_id] if ended else ids)
                file.write(json.dumps(done[-1]) + "\n")
            file.flush()
            bar.update(len(group))
    return done


def with_answers(
    encoder: Encoder, rows: Sequence[Row], answers: Sequence[Sequence[int]]
) -> list[Encoded]:
    """Return rows encoded with these answers; one that fills ``max_length`` alone is left out."""
    found = []
    for row, answer in zip(rows, answers, strict=True):
        prompt = encoder.prompt(row)
        ids = [*prompt, *answer]
        limit = encoder.max_length
        if answer and len(prompt) < limit:
            trained = [False] * len(prompt) + [True] * len(answer)
            found.append(Encoded(ids[:limit], trained[:limit], len(ids) > limit))
    return found


def as_rows(encoder: Encoder, rows: Sequence[Row], answers: Sequence[Sequence[int]]) -> list[Row]:
    """Return the rows with the answers as text, for a student of another tokenizer."""
    return [
        replace(
            row,
            messages=(*row.messages[:-1], Message("assistant", encoder.decode_answer(answer))),
        )
        for row, answer in zip(rows, answers, strict=True)
    ]
