"""What the rows of a file are like, as a proposal needs it: shape, number and lengths."""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from typing import Any

from edgetune.data.answer_tokens import often_in_answers
from edgetune.data.build_encoder import make_encoder
from edgetune.data.dataset.sample import sample_rows
from edgetune.data.encode_rows import encode_rows, quantile
from edgetune.data.files import read_records
from edgetune.data.pairs import split_pair
from edgetune.data.records import Record
from edgetune.data.shapes import Chosen, choose_shape, make_shaped
from edgetune.data.sources import open_source
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.plan.proposal import RowFacts
from edgetune.recipe import DataSection

FIRST_ROWS, SAMPLE_ROWS = 1_000, 5_000
#: Objectives of a shape, the first that it has is proposed.
_ORDER = ("kto", "dpo", "sft", "text")
_LONG = 1 << 17  # tokens; no row is cut while it is measured


def measure_rows(path: str, tokenizer: Any, seed: int) -> RowFacts:
    """Return what the rows of a file are like.

    Raises:
        InputError: rows that cannot be read, or have no answers.
    """
    data = DataSection(train=path, max_length=_LONG, on_bad_row="skip")
    records = list(islice(read_records(open_source(path, "train")), FIRST_ROWS))
    shape = choose_shape(records, data, path)
    objective = next((name for name in _ORDER if name in shape.objectives), None)
    if objective is None:
        raise InputError(
            "these rows are prompts without answers, and nothing says which answers are good",
            where=path,
            hint="give rows with answers; a recipe for prompts alone names a reward",
        )
    sample = sample_rows(data, tokenizer, seed, SAMPLE_ROWS)
    encoder = make_encoder(tokenizer, data, None)
    rows = [one for row in sample.rows for one in split_pair(row)]
    encoded = encode_rows(encoder, rows, Log(quiet=True), "train", "skip").encoded
    lengths = sorted(len(one.ids) for one in encoded)
    train = sample.train
    if objective == "kto":  # only liked answers were counted, as supervised tuning reads them
        train = round(train / _liked_share(records, shape))
    return RowFacts(
        objective=objective,
        shape=shape.format,
        train=train,
        mean=sum(lengths) / len(lengths),
        p99=quantile(lengths, 0.99),
        longest=lengths[-1],
        whole=len(sample.rows) >= sample.train,
        often=tuple(often_in_answers(encoded)),
    )


def _liked_share(records: list[Record], shape: Chosen) -> float:
    """Return the fraction of answers with a thumb up."""
    labels = []
    for record in records:
        with suppress(InputError):
            labels.append(make_shaped(record, shape).label)
    return max(0.01, labels.count(True) / max(1, len(labels)))
