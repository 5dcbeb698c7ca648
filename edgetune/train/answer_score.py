"""How many validation rows a model answers exactly while it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgetune.data.encode import Encoder
from edgetune.data.rows import Row
from edgetune.errors import InputError
from edgetune.runtimes.pytorch import generate

_LONGER = 8  # tokens that an answer may have beyond the longest that is expected


@dataclass(frozen=True)
class AnswerScore:
    """Asks a model some rows, greedily.

    Attributes:
        encoder: makes prompts of rows and text of answers.
        rows: of which ``count`` are asked, taken evenly; texts have no answer and are not.
        count: how many at most.
    """

    encoder: Encoder
    rows: Sequence[Row]
    count: int

    name = "exact_match"

    def __call__(self, model: Any) -> float:
        """Return the share of exact answers.

        Raises:
            InputError: no row has an answer.
        """
        total = len(self.rows)
        asked = [self.rows[at * total // self.count] for at in range(min(self.count, total))]
        if total <= self.count:
            asked = list(self.rows)
        asked = [row for row in asked if row.text is None]
        if not asked:
            raise InputError(
                "no validation row has an answer",
                where="tune.best_by",
                hint="use best_by: loss, or rows with answers in data.validation",
            )
        expected = [self.encoder.answer_text(row) for row in asked]
        longest = max(len(self.encoder.tokenizer(one).input_ids) for one in expected) + _LONGER
        prompts = [self.encoder.prompt(row) for row in asked]
        was_training = model.training
        model.eval()
        said = generate(model, prompts, longest, self.encoder.stop_ids)
        model.train(was_training)
        answers = [self.encoder.decode_answer(ids) for ids in said]
        right = sum(one == other.strip() for one, other in zip(answers, expected, strict=True))
        return right / len(asked)
