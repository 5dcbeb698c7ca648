"""Votes are counted once each, and what is no vote of the page is refused with its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgetune.errors import InputError
from edgetune.votes.ballots import MODEL, Ballot, Vote, count_votes, read_ballots, write_votes
from edgetune.votes.page import Key
from edgetune.votes.results import count_all
from edgetune.votes.table import render_table

from .pages import make_page


def export(
    path: Path, key: Key, votes: dict[int, str], name: str = "Ann", at: str = "2026-11-27T10:00"
) -> Path:
    """Write votes as the page does."""
    value = {
        "format": "edgetune-votes", "schema": 1, "page": key.page, "key": key.encode(),
        "voter": {"name": name, "id": name * 3, "kind": "person"},
        "votes": [{"item": n, "vote": vote, "at": at} for n, vote in votes.items()],
    }  # fmt: skip
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def change(path: Path, **values: Any) -> Path:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return path


def test_sides_are_turned_into_models(tmp_path: Path) -> None:
    _, key = make_page()
    path = export(tmp_path / "a.json", key, {0: "first", 1: "second", 2: "tie"})
    found, ballots = read_ballots([path])
    votes = count_votes(found, ballots)
    assert votes.first.tolist() == [item.first for item in key.items[:3]]
    assert votes.won.tolist() == [1.0, 0.0, 0.5]
    assert votes.rows.tolist() == [item.row for item in key.items[:3]]


def test_an_earlier_export_of_the_same_voter_counts_once(tmp_path: Path) -> None:
    _, key = make_page()
    early = export(tmp_path / "early.json", key, {0: "first", 1: "second"})
    late = export(tmp_path / "late.json", key, {0: "tie", 1: "second", 2: "bad"}, at="2026-11-28")
    for paths in ([early, late], [late, early]):
        _, (ballot,) = read_ballots(paths)
        assert [ballot.votes[n, False].choice for n in range(3)] == ["tie", "second", "bad"]
        assert ballot.repeated == 2
    assert "2 votes are in several exports" in render_table(count_all(*read_ballots([early, late])))


def test_votes_of_another_page_are_refused(tmp_path: Path) -> None:
    one = export(tmp_path / "one.json", make_page()[1], {0: "first"})
    other = export(tmp_path / "other.json", make_page(7)[1], {0: "first"})
    with pytest.raises(InputError, match="votes of another page") as raised:
        read_ballots([one, other])
    assert raised.value.where == str(other)


@pytest.mark.parametrize(
    "values",
    [
        {"format": "other"},
        {"schema": 2},
        {"page": "0" * 16},
        {"key": "e30="},
        {"key": 7},
        {"voter": {"name": "Ann"}},
        {"voter": {"name": "Ann", "id": "1", "kind": "owl"}},
        {"votes": [{"item": 99, "vote": "first"}]},
        {"votes": [{"item": -1, "vote": "first"}]},
        {"votes": [{"item": True, "vote": "first"}]},
        {"votes": [{"item": 0, "vote": "third"}]},
        {"votes": {}},
        {"votes": []},
    ],
)
def test_what_is_no_vote_is_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    path = change(export(tmp_path / "a.json", make_page()[1], {0: "first"}), **values)
    with pytest.raises(InputError):
        read_ballots([path])


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_files_without_votes_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    for one in (path, tmp_path / "absent.json"):
        with pytest.raises(InputError):
            read_ballots([one])


def test_votes_of_a_model_are_never_counted_with_those_of_people(tmp_path: Path) -> None:
    _, key = make_page(20)
    person = export(tmp_path / "a.json", key, dict.fromkeys(range(8), "first"))
    ballot = Ballot("judge.gguf", "1", MODEL, unreadable=3)
    for n in range(10):  # always the first answer, whatever the order
        ballot.votes |= {(n, swapped): Vote(n, "first", swapped) for swapped in (False, True)}
    write_votes(tmp_path / "m.json", key, ballot)
    found = count_all(*read_ballots([person, tmp_path / "m.json"]))
    assert found["people"]["votes"] == 8
    (model,) = found["judge_models"]
    assert (model["votes"], model["unreadable"], model["consistent"]["value"]) == (20, 3, 0.0)
    assert model["agreement"] is None
    assert model["position"]["value"] > 0.9 and model["position"]["p_value"] < 0.001
    assert model["agreement_with_people"]["value"] == 0.0  # its votes are ties
    table = render_table(found)
    assert "a model, not a person" in table and "BIAS" in table and "1 voter:" in table
    alone = count_all(*read_ballots([tmp_path / "m.json"]))
    assert alone["people"] is None and "no person voted" in render_table(alone)


def test_the_table_says_who_is_better_and_what_would_decide(tmp_path: Path) -> None:
    _, key = make_page(60, models=3)
    better = {frozenset((0, 1)): 0, frozenset((0, 2)): 0}
    votes = {}
    for n, item in enumerate(key.items):
        wanted = better.get(frozenset((item.first, item.second)))
        votes[n] = "tie" if wanted is None else "first" if item.first == wanted else "second"
    found = count_all(*read_ballots([export(tmp_path / "a.json", key, votes)]))
    verdicts = {(one["model"], one["against"]): one for one in found["people"]["pairs"]}
    assert verdicts["secret-0", "secret-1"]["verdict"] == "better"
    assert verdicts["secret-0", "secret-1"]["more_votes"] == 0
    assert verdicts["secret-1", "secret-2"]["verdict"] == "undecided"
    assert found["people"]["scores"][0][0]["model"] == "secret-0"
    table = render_table(found)
    assert "secret-0 over secret-1" in table and "60/0/0" in table
    assert "no number of votes" in table and "BIAS" not in table
