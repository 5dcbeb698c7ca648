"""What the votes of a page say: one JSON value, and the tables of it for a person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgetune.measure.statistics import Estimate, proportion
from edgetune.votes.agreement import Accord, accord, agreement, settle
from edgetune.votes.ballots import MODEL, PERSON, Ballot, count_votes
from edgetune.votes.bradley_terry import fit_scores
from edgetune.votes.clusters import FEW_VOTERS
from edgetune.votes.counted import Counted
from edgetune.votes.page import Key
from edgetune.votes.pairs import Pair
from edgetune.votes.win_rates import WinRate, position_bias, win_rate

#: Fewer rows than these: the intervals hold, and are too wide to decide anything but a landslide.
FEW_ROWS = 10


def count_all(key: Key, ballots: Sequence[Ballot]) -> dict[str, Any]:
    """Return what people's votes say, and apart from it what each judge model's votes say."""
    people = [one for one in ballots if one.kind == PERSON]
    votes = count_votes(key, people)
    found: dict[str, Any] = {
        "page": key.page,
        "models": list(key.models),
        "comparisons": len(key.items),
        "voters": [{"name": one.name, "votes": len(one.votes)} for one in people],
        "people": _say(key, votes) if len(votes) else None,
        "judge_models": [_say_model(key, one, votes) for one in ballots if one.kind == MODEL],
        "notes": _notes(key, ballots, votes),
    }
    return found


def _say(key: Key, votes: Counted) -> dict[str, Any]:
    """Return win rates, scores, position bias and agreement of some votes."""
    rates = [win_rate(votes, *_better_first(votes, *pair)) for pair in votes.pairs()]
    adjusted = _holm([rate.p_value for rate in rates])
    bias, agreed = position_bias(votes), agreement(votes)
    asked = {frozenset(pair.models): pair for pair in key.pairs}
    return {
        "votes": len(votes),
        "pairs": [
            _pair(key, rate, p, asked.get(frozenset((rate.model, rate.against))))
            for rate, p in zip(rates, adjusted, strict=True)
        ],
        "scores": [
            [
                {"model": key.models[model], **_estimate(one)}
                for model, one in zip(group.models, group.estimates, strict=True)
            ]
            for group in fit_scores(votes)
        ],
        "position": {**_estimate(bias.rate), "p_value": bias.p_value},
        "agreement": None if agreed is None else {
            "alpha": _estimate(agreed.alpha), "alike": _estimate(agreed.alike),
        },
    }  # fmt: skip


def _better_first(votes: Counted, one: int, other: int) -> tuple[int, int]:
    chosen = votes.where(votes.between(one, other))
    won = np.where(chosen.first == one, chosen.won, 1 - chosen.won).mean()
    return (one, other) if won >= 0.5 else (other, one)


def _pair(key: Key, rate: WinRate, p_adjusted: float, pair: Pair | None) -> dict[str, Any]:
    decided = p_adjusted < 0.05
    more = None
    if rate.rows_to_decide is not None:
        more = max(0, rate.rows_to_decide - rate.rows) * rate.rate.n / rate.rows
    return {
        "model": key.models[rate.model],
        "against": key.models[rate.against],
        "wins": rate.wins, "losses": rate.losses, "ties": rate.ties, "both_bad": rate.both_bad,
        "rows": rate.rows,
        "win_rate": _estimate(rate.rate),
        "p_value": rate.p_value,
        "p_adjusted": p_adjusted,
        "verdict": "better" if decided else "undecided",
        "more_votes": 0 if decided else None if more is None else math.ceil(more),
        "equal_answers": None if pair is None else pair.equal,
        "asked_rows": None if pair is None else pair.rows,
    }  # fmt: skip


def _say_model(key: Key, ballot: Ballot, people: Counted) -> dict[str, Any]:
    """Return what a judge model's votes say, its own bias, and how it agrees with people."""
    votes = count_votes(key, [ballot])
    both, chance, settled = settle(votes)
    said = accord(people, settled) if len(people) else None
    consistent = proportion(sum(both), len(both)) if both else None
    return {
        "name": ballot.name,
        "unreadable": ballot.unreadable,
        "consistent": None if consistent is None else {
            **_estimate(consistent), "by_chance": chance,
        },
        "agreement_with_people": None if said is None else {
            **_estimate(said.alike), "by_chance": said.chance,
        },
        **_say(key, votes),
        "agreement": None,  # of a model with itself: that is `consistent`
        "notes": _judge_notes(ballot.name, consistent, chance, said),
    }  # fmt: skip


def _judge_notes(
    name: str, consistent: Estimate | None, chance: float, said: Accord | None
) -> list[str]:
    """Return what a judge model's votes are worth, in sentences, where it is little."""
    notes = []
    if consistent is None:
        notes.append(f"{name} voted on no comparison in both orders: its position bias is unknown")
    elif consistent.ci95 is not None and consistent.ci95[0] <= chance:
        notes.append(
            f"the votes of {name} go by the order or are all alike: both orders agree no more "
            "often than if it did not look at the answers, so they say nothing of the models"
        )
    if said is not None and said.alike.ci95 is not None and said.alike.ci95[0] <= said.chance:
        notes.append(f"{name} votes as people did no more often than by chance")
    return notes


def _notes(key: Key, ballots: Sequence[Ballot], votes: Counted) -> list[str]:
    """Return what a reader must know beside the figures."""
    notes = []
    repeated = sum(one.repeated for one in ballots)
    if repeated:
        notes.append(f"{repeated} votes are in several exports of one voter and count once")
    names = [one.name for one in ballots if one.kind == PERSON]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        notes.append(
            f"several voters are called {', '.join(twice)}: they count as different people"
        )
    if not len(votes):
        notes.append("no person voted: what a judge model says is no evaluation by people")
        return notes
    voters = len(np.unique(votes.voters))
    if voters < FEW_VOTERS:
        notes.append(
            f"{voters} voter{'s' * (voters > 1)}: intervals are over rows, and hold for the taste "
            f"of these people; from {FEW_VOTERS} voters on they are over voters too"
        )
    if (rows := len(np.unique(votes.rows))) < FEW_ROWS:
        notes.append(f"only {rows} rows have votes")
    groups = fit_scores(votes)
    met = set(votes.first.tolist()) | set(votes.second.tolist())
    missing = [name for number, name in enumerate(key.models) if number not in met]
    if len(groups) > 1:
        notes.append("no votes connect some of the models: scores compare only within a group")
    if missing:
        notes.append(f"no votes yet on {', '.join(missing)}")
    return notes


def _holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for their number (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = largest
    return adjusted


def _estimate(one: Estimate) -> dict[str, Any]:
    value = one.value if math.isfinite(one.value) else None
    return {"value": value, "ci95": None if one.ci95 is None else list(one.ci95), "n": one.n}
