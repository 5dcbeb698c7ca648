"""What a tuning forgets: perplexity on general text before it and after it.

Tuning on a narrow task raises the loss on everything else (McCloskey and Cohen 1989; of language
models Luo et al. 2023, arXiv 2308.08747). The same texts are scored by the model as the step begins
and as it is kept, so that the difference is one of pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from edgetune.data.encode import Encoder
from edgetune.data.encoded import Encoded
from edgetune.data.load import load_rows
from edgetune.data.rows import Row
from edgetune.embedded import locate
from edgetune.errors import InputError
from edgetune.facts import GeneralText
from edgetune.log import Log
from edgetune.measure.statistics import ratio_of_sums
from edgetune.models.resolve import resolve_data
from edgetune.recipe import DataSection, TuneSection
from edgetune.train.objectives import LANGUAGE_MODEL, OBJECTIVES

EMBEDDED = "embedded"
#: Rows of a file of one's own, taken evenly.
MOST_ROWS = 128


@dataclass(frozen=True)
class Watched:
    """General text that a model was scored on before it is tuned.

    Attributes:
        source: the recipe's ``tune.general``.
        rows: as tokens.
        before: the loss of each, summed over its tokens, in nats.
    """

    source: str
    rows: Sequence[Encoded]
    before: Sequence[float]

    def compare(self, model: Any, log: Log) -> GeneralText:
        """Score the tuned model on the same text, and say how it changed."""
        after = score_texts(model, self.rows)
        found = compare_general(self.source, self.rows, self.before, after)
        log.say(
            f"general text ({self.source}): perplexity {found.perplexity_before:.4g} before, "
            f"{found.perplexity_after:.4g} after"
        )
        return found


def watch_general(
    section: TuneSection, model: Any, encoder: Encoder, data: DataSection, log: Log
) -> Watched | None:
    """Score the model of a step as it begins; none where that is off, or no language model.

    Raises:
        InputError: rows that cannot be read.
    """
    if section.general == "off" or OBJECTIVES[section.objective].gives != LANGUAGE_MODEL:
        return None
    rows = read_general(section.general, encoder, data, log)
    return Watched(section.general, rows, score_texts(model, rows))


def read_general(source: str, encoder: Encoder, data: DataSection, log: Log) -> list[Encoded]:
    """Return general text as tokens: rows of a file, or the paragraphs that edgetune carries.

    Args:
        source: the recipe's ``tune.general``.
        encoder: makes tokens; of conversations answers are scored, of texts all.
        data: settings of the recipe's rows, whose paths are not read.
        log: for what a file's reader says.

    Raises:
        InputError: rows that cannot be read, or none with a token to score.
    """
    if source == EMBEDDED:
        text = locate("general/texts.txt").read_text(encoding="utf-8")
        rows = [Row((), one, f"{EMBEDDED}:{n}") for n, one in enumerate(text.strip().split("\n\n"))]
    else:
        read = DataSection(train=source, max_length=data.max_length)
        rows = list(load_rows(resolve_data(source), read, log.muted(), "train").rows)
        if len(rows) > MOST_ROWS:
            rows = [rows[at * len(rows) // MOST_ROWS] for at in range(MOST_ROWS)]
    found = [one for one in encoder.encode_many(rows) if not isinstance(one, InputError)]
    found = [one for one in found if any(one.trained[1:])]
    if not found:
        raise InputError(
            "no row of it has a token to score", where=f"tune.general: {source}",
            hint="name rows of plain text, or of prompts with answers",
        )  # fmt: skip
    return found


@torch.no_grad()
def score_texts(model: Any, rows: Sequence[Encoded]) -> list[float]:
    """Return the cross-entropy of each row's scored tokens, summed, in nats."""
    was_training = model.training
    model.eval()
    sums = []
    for row in rows:
        ids_BT = torch.tensor([list(row.ids)], device=next(model.parameters()).device)
        logits_TV = model(input_ids=ids_BT, use_cache=False).logits[0, :-1].float()
        losses_T = F.cross_entropy(logits_TV, ids_BT[0, 1:], reduction="none")
        scored_T = torch.tensor(list(row.trained[1:]), device=losses_T.device)
        sums.append(float((losses_T * scored_T).sum()))
    model.train(was_training)
    return sums


def compare_general(
    source: str, rows: Sequence[Encoded], before: Sequence[float], after: Sequence[float]
) -> GeneralText:
    """Return perplexity before and after, and the change in nats per token with its interval."""
    counts = [sum(row.trained[1:]) for row in rows]
    total = sum(counts)
    changes = [later - sooner for sooner, later in zip(before, after, strict=True)]
    change = ratio_of_sums(changes, counts)
    return GeneralText(
        source=source,
        texts=len(rows),
        tokens=total,
        perplexity_before=math.exp(min(sum(before) / total, 700.0)),
        perplexity_after=math.exp(min(sum(after) / total, 700.0)),
        loss_change=change.value,
        ci95=change.ci95,
    )
