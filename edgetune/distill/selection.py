"""Select the student that ships: the distilled one, or the control trained without the teacher.

Both are evaluated on validation rows; test rows evaluate what ships, so they select nothing. A
difference counts when its 95 % interval, over the same rows, leaves out 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from edgetune.data.encode import Encoder
from edgetune.data.encode_rows import Prepared
from edgetune.data.encoded import Encoded
from edgetune.data.rows import Row
from edgetune.distill.teacher import TorchTeacher
from edgetune.log import Log
from edgetune.measure.statistics import Estimate, mean, ratio_of_sums
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef

ASKED_ROWS = 64  # whose answers are generated
SCORED_ROWS = 256  # whose loss is measured


def choose_student(
    students: Mapping[str, ModelRef], encoder: Encoder, validation: Prepared, dtype: str,
    device: str, log: Log,
) -> tuple[str, dict[str, Any]]:  # fmt: skip
    """Return ``student`` or ``baseline``, and the figures that decided.

    The score is exact match, where it differs beyond its interval; where it is the same for both,
    as for texts, the loss of the answers. In doubt the student ships.
    """
    found = compare_models(students, encoder, validation, dtype, device)
    exact, loss = found.estimates["exact_match"], found.estimates["loss"]
    worse = (_below(exact) and not found.silent) or (found.silent and _above(loss))
    if worse:
        log.warn(
            "the student trained without the teacher is better on validation rows and ships "
            f"instead of the distilled one (distilled minus baseline: {found.text})"
        )
    else:
        log.say(f"the distilled student ships (minus baseline, on validation rows: {found.text})")
    return "baseline" if worse else "student", found.figures


@dataclass(frozen=True)
class Compared:
    """Two models on the same validation rows: the first minus the second.

    Attributes:
        estimates: of the differences of exact match and loss (nats per token).
        scores: both of each model, by its name.
        silent: both answer each row alike, right or wrong.
    """

    estimates: dict[str, Estimate | None]
    scores: dict[str, dict[str, float]]
    silent: bool

    @property
    def figures(self) -> dict[str, Any]:
        """Differences as JSON values."""
        return {
            name: {"difference": one.value, "ci95": one.ci95, "n": one.n} if one else None
            for name, one in self.estimates.items()
        }

    @property
    def text(self) -> str:
        """Differences in words."""
        return "; ".join(f"{name} {_text(one)}" for name, one in self.estimates.items() if one)


def compare_models(
    models: Mapping[str, ModelRef], encoder: Encoder, validation: Prepared, dtype: str,
    device: str, asked_rows: int = ASKED_ROWS,
) -> Compared:  # fmt: skip
    """Compare two models by exact match and loss on the same validation rows."""
    asked = [row for row in validation.rows if row.text is None][:asked_rows]
    scored = [row for row in validation.encoded if sum(row.trained[1:])][:SCORED_ROWS]
    counts = [sum(row.trained[1:]) for row in scored]
    answers, losses = [], []
    scores: dict[str, dict[str, float]] = {}
    for name, ref in models.items():
        model = load_model(ref, dtype, device)
        answers.append(_exact(model, encoder, asked))
        losses.append(_losses(model, scored))
        scores[name] = {}
        if asked:
            scores[name]["exact_match"] = sum(answers[-1]) / len(asked)
        if scored:
            scores[name]["loss"] = sum(losses[-1]) / sum(counts)
        del model
    exact = [a - b for a, b in zip(*answers, strict=True)]
    loss = [a - b for a, b in zip(*losses, strict=True)]
    estimates = {
        "exact_match": mean(exact) if asked else None,
        "loss": ratio_of_sums(loss, counts) if scored else None,
    }
    return Compared(estimates, scores, answers[0] == answers[1])


def _exact(model: Any, encoder: Encoder, rows: Sequence[Row]) -> list[float]:
    """Return 1 for each row that is answered word for word, greedily, else 0."""
    if not rows:
        return []
    from edgetune.runtimes.pytorch import generate

    answers = [encoder.answer_text(row) for row in rows]  # with a tool call's text, as bench asks
    coded = encoder.tokenizer(answers, add_special_tokens=False).input_ids
    longest = max(map(len, coded)) + 1
    prompts = [encoder.prompt(row) for row in rows]
    given = generate(model, prompts, longest, encoder.stop_ids)
    return [
        float(encoder.decode_answer(ids) == answer.strip())
        for ids, answer in zip(given, answers, strict=True)
    ]


def _losses(model: Any, rows: Sequence[Encoded]) -> list[float]:
    """Return each row's cross-entropy, summed over its trained tokens, in nats."""
    found = [0.0] * len(rows)
    for index, logits_NV in TorchTeacher(model).score(rows):
        row = rows[index]
        pairs = zip(row.ids[1:], row.trained[1:], strict=True)
        labels_N = torch.tensor([id for id, trained in pairs if trained], device=logits_NV.device)
        loss = torch.nn.functional.cross_entropy(logits_NV, labels_N, reduction="sum")
        found[index] = float(loss)
    return found


def _below(one: Estimate | None) -> bool:
    return one is not None and one.ci95 is not None and one.ci95[1] < 0


def _above(one: Estimate | None) -> bool:
    return one is not None and one.ci95 is not None and one.ci95[0] > 0


def _text(one: Estimate) -> str:
    low, high = one.ci95 or (float("nan"), float("nan"))
    return f"{one.value:+.3f} ({low:+.3f} to {high:+.3f}, {one.n} rows)"
