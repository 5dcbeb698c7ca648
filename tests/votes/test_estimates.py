"""Win rates, scores, position bias and agreement are what the field's formulas say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgetune.votes.agreement import accord, agreement
from edgetune.votes.bradley_terry import connected, fit_scores
from edgetune.votes.clusters import cluster_variance, t_p_value
from edgetune.votes.counted import Counted
from edgetune.votes.results import _holm as adjust_p_values
from edgetune.votes.win_rates import position_bias, win_rate

from .elections import draw_votes


def count(votes: list[tuple[int, int, str]], voters: list[int] | None = None) -> Counted:
    """Return votes (first, second, choice), each on a row of its own but for other voters."""
    first, second, choices = (np.asarray(column) for column in zip(*votes, strict=True))
    numbers = np.arange(len(votes))
    who = np.zeros(len(votes), np.int64) if voters is None else np.asarray(voters)
    names = [f"m{n}" for n in range(int(max(first.max(), second.max())) + 1)]
    return Counted(names, numbers, numbers, who, first, second, choices)


def test_ties_and_both_bad_are_half_a_win() -> None:
    votes = count([(0, 1, "first")] * 5 + [(1, 0, "first")] + [(0, 1, "tie"), (1, 0, "bad")])
    rate = win_rate(votes, 0, 1)
    assert (rate.wins, rate.losses, rate.ties, rate.both_bad) == (5, 1, 1, 1)
    assert rate.rate.value == pytest.approx(6 / 8)
    other = win_rate(votes, 1, 0)
    assert other.rate.value == pytest.approx(2 / 8)
    assert rate.rate.ci95 and other.rate.ci95
    assert rate.rate.ci95[0] == pytest.approx(1 - other.rate.ci95[1])
    assert rate.p_value == pytest.approx(other.p_value)


def test_scores_of_many_votes_are_the_log_odds() -> None:
    votes = draw_votes(np.random.default_rng(0), [1.0, 0.0, -0.5], 20000, ties=0.0, side=0.4)
    (scores,) = fit_scores(votes)
    wanted = dict(enumerate(np.asarray([1.0, 0.0, -0.5]) - 0.5 / 3))
    for model, one in zip(scores.models, scores.estimates, strict=True):
        assert one.value == pytest.approx(wanted[model], abs=0.03)
        assert one.ci95 and one.ci95[1] - one.ci95[0] < 0.06
    assert scores.models == [0, 1, 2]
    bias = position_bias(votes)
    assert bias.p_value < 1e-6 and bias.rate.value > 0.55


def test_a_model_that_won_every_vote_has_a_finite_score() -> None:
    (scores,) = fit_scores(count([(0, 1, "first"), (1, 0, "second")] * 3))
    best = scores.estimates[0]
    assert scores.models == [0, 1] and math.isfinite(best.value) and best.value > 0
    assert best.ci95 and all(map(math.isfinite, best.ci95)) and best.ci95[0] < best.value


def test_models_that_no_votes_connect_are_scored_apart() -> None:
    votes = count([(0, 1, "first"), (1, 0, "tie"), (3, 2, "second"), (2, 3, "first")])
    assert connected(votes) == [[0, 1], [2, 3]]
    assert [one.models for one in fit_scores(votes)] == [[0, 1], [2, 3]]
    chained = count([(0, 1, "first"), (2, 3, "first"), (3, 1, "tie")])
    assert connected(chained) == [[0, 1, 2, 3]]


def test_one_vote_gives_an_interval_that_decides_nothing() -> None:
    votes = count([(0, 1, "first")])
    rate = win_rate(votes, 0, 1)
    assert rate.rate.ci95 == (0.0, 1.0) and rate.p_value > 0.05
    (scores,) = fit_scores(votes)
    assert scores.estimates[0].ci95 and scores.estimates[0].ci95[0] < 0
    assert position_bias(votes).p_value > 0.05


def test_position_bias_is_not_the_better_model_shown_first() -> None:
    lopsided = count([(0, 1, "first")] * 45 + [(0, 1, "second")] * 5
                     + [(1, 0, "second")] * 9 + [(1, 0, "first")])  # fmt: skip
    assert lopsided.won.mean() > 0.7
    assert position_bias(lopsided).p_value > 0.3
    always = count([(0, 1, "first"), (1, 0, "first")] * 20)
    assert position_bias(always).p_value < 1e-3
    assert win_rate(always, 0, 1).rate.value == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("strengths", "rows", "voters", "ties", "side"),
    [
        ([0.4, -0.4], 40, 1, 0.2, 0.0),
        ([0.4, -0.4], 60, 1, 0.6, 0.5),
        ([0.4, -0.4], 25, 6, 0.2, 0.0),
        ([0.9, 0.2, -0.3, -0.8], 20, 1, 0.2, 0.3),
    ],
)
def test_intervals_cover_what_votes_were_drawn_from(
    strengths: list[float], rows: int, voters: int, ties: float, side: float
) -> None:
    """Near 95 % of 300 elections; bench/judge_votes.py does it with more, and more settings."""
    draw = np.random.default_rng(1)
    wins = losses = 0.0
    for sign in (1, -1):
        p = 1 / (1 + math.exp(-(strengths[0] - strengths[1] + sign * side)))
        wins, losses = wins + (1 - ties) * p / 2 + ties / 4, losses
    true_log_odds = math.log(wins / (1 - wins))
    covered = {"rate": 0, "score": 0}
    for _ in range(300):
        votes = draw_votes(draw, strengths, rows, voters, ties, side)
        low, high = win_rate(votes, 0, 1).rate.ci95 or (1, 0)
        covered["rate"] += low <= wins <= high
        if len(strengths) == 2:
            (scores,) = fit_scores(votes)
            low, high = scores.estimates[scores.models.index(0)].ci95 or (1, 0)
            covered["score"] += 2 * low <= true_log_odds <= 2 * high
    assert 0.92 <= covered["rate"] / 300 <= 0.99
    if len(strengths) == 2:
        assert 0.92 <= covered["score"] / 300 <= 0.99


def test_votes_of_one_row_are_no_independent_evidence() -> None:
    one = draw_votes(np.random.default_rng(2), [0.3, -0.3], 50, ties=0.0)
    places = np.tile(np.arange(50), 4)
    four = one.where(places)
    alone, repeated = (win_rate(votes, 0, 1).rate.ci95 or (0, 0) for votes in (one, four))
    assert repeated == pytest.approx(alone, abs=1e-3)


def test_from_five_voters_on_their_difference_widens_the_interval() -> None:
    rows, voters = np.tile(np.arange(20), 6), np.repeat(np.arange(6), 20)
    influence = np.where(voters < 3, 1.0, -1.0)[:, None] / 120
    by_rows, _ = cluster_variance(influence, rows, np.zeros(120, np.int64))
    by_both, degrees = cluster_variance(influence, rows, voters)
    assert by_rows[0] == pytest.approx(0) and by_both[0] > 0.02 and degrees[0] < 7


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 30, 121, 400, 900])
@pytest.mark.parametrize("t", [0.0, 0.3, -1.96, 4.5])
def test_p_values_are_those_of_students_t(t: float, degrees: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert t_p_value(t, degrees) == pytest.approx(2 * stats.t.sf(abs(t), degrees), abs=2e-3)
    if degrees <= 500:
        assert t_p_value(t, degrees) == pytest.approx(2 * stats.t.sf(abs(t), degrees), abs=1e-9)


def test_p_values_are_adjusted_by_holm() -> None:
    assert adjust_p_values([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_alpha_is_that_of_krippendorffs_example() -> None:
    """Two coders, ten units, nominal data: alpha 0.095 (Krippendorff 2011, section A)."""
    one, other = (
        [0, 1, 0, 0, 0, 0, 0, 0, 1, 0],
        [1, 1, 1, 0, 0, 1, 0, 0, 0, 0],
    )
    choices = np.asarray(["first" if v else "second" for v in one + other], "<U6")
    items, zeros = np.tile(np.arange(10), 2), np.zeros(20, np.int64)
    votes = Counted(["a", "b"], items, items, np.repeat([0, 1], 10), zeros, zeros + 1, choices)
    found = agreement(votes)
    assert found is not None
    assert found.alpha.value == pytest.approx(0.095, abs=5e-4)
    assert found.alpha.n == 10 and found.alike.value == pytest.approx(0.6)
    assert agreement(votes.where(np.arange(10))) is None


def test_agreement_counts_models_not_sides() -> None:
    first, second = np.asarray([0, 1, 0, 1]), np.asarray([1, 0, 1, 0])
    items, voters = np.asarray([0, 0, 1, 1]), np.asarray([0, 1, 0, 1])
    choices = np.asarray(["first", "second", "bad", "tie"], "<U6")
    votes = Counted(["a", "b"], items, items, voters, first, second, choices)
    found = agreement(votes)
    assert found is not None and found.alike.value == 1 and found.alpha.value == 1
    people, model = votes.where(np.asarray([0, 2])), votes.where(np.asarray([1, 3]))
    said = accord(people, model)
    assert said is not None and said.alike.value == 1 and said.chance == pytest.approx(0.5)
    assert accord(people.where(np.asarray([0])), model.where(np.asarray([1]))) is None
