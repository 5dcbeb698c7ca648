"""Losses are reported at the same tokens whatever a trial's batches are."""

from __future__ import annotations

import pytest

from edgetune.log import Log
from edgetune.sweep.pruning import Behind, PruneBehind


def reported(validations: list[tuple[int, float]]) -> dict[int, float]:
    found: dict[int, float] = {}

    def keep(tokens: int, loss: float) -> bool:
        found[tokens] = loss
        return False

    log = Log(quiet=True).listened(PruneBehind("teacher", keep)).bind("tune", "key")
    for tokens, loss in validations:
        log.event("train", role="teacher", step=1, tokens=tokens, eval_loss=loss)
        log.event("train", role="student", step=1, tokens=tokens, eval_loss=9.0)
        log.event("train", role="teacher", step=1, tokens=tokens, loss=9.0)
    return found


def test_other_batches_report_at_the_same_tokens() -> None:
    often = reported([(tokens, 4 - tokens / 1000) for tokens in range(100, 2001, 100)])
    rarely = reported([(tokens, 4 - tokens / 1000) for tokens in range(250, 2001, 350)])
    shared = often.keys() & rarely.keys()
    assert {512, 1024} <= shared
    for tokens in shared:  # a straight line is interpolated exactly
        assert often[tokens] == pytest.approx(rarely[tokens])


def test_what_is_behind_ends_and_so_does_what_is_no_number() -> None:
    log = Log(quiet=True).listened(PruneBehind("teacher", lambda tokens, loss: tokens > 500))
    log.event("train", role="teacher", tokens=400, eval_loss=2.0)
    with pytest.raises(Behind, match="after 512 tokens"):
        log.event("train", role="teacher", tokens=600, eval_loss=2.0)
    with pytest.raises(Behind, match="nan"):
        log.event("train", role="teacher", tokens=700, eval_loss=float("nan"))
