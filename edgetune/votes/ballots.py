"""Votes as the page exports them: read, checked, and counted once each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgetune.disk import write_atomic
from edgetune.errors import InputError
from edgetune.votes.counted import CHOICES, Counted
from edgetune.votes.page import SCHEMA, Key, decode_key

FORMAT = "edgetune-votes"
PERSON, MODEL = "person", "model"


@dataclass(frozen=True)
class Vote:
    """One vote.

    Attributes:
        item: number of the comparison on the page.
        choice: a key of :data:`edgetune.votes.counted.CHOICES`, in the order that was shown.
        swapped: whether the answers were shown in the other order than the page has.
        at: when, ISO 8601; of two votes of one voter on one comparison the later counts.
    """

    item: int
    choice: str
    swapped: bool = False
    at: str = ""


@dataclass
class Ballot:
    """The votes of one voter.

    Attributes:
        name: as typed; two voters may have the same.
        id: made by the page when the voter began.
        kind: :data:`PERSON` or :data:`MODEL`.
        votes: by comparison and order.
        repeated: votes that were there already, in another export of the same votes.
        unreadable: replies of a judge model that were no vote.
    """

    name: str
    id: str
    kind: str
    votes: dict[tuple[int, bool], Vote] = field(default_factory=dict)
    repeated: int = 0
    unreadable: int = 0


def read_ballots(paths: Sequence[Path]) -> tuple[Key, list[Ballot]]:
    """Return the key of the page, and each voter's votes.

    Raises:
        InputError: a file that holds no votes, votes of another page, or no votes at all.
    """
    key: Key | None = None
    ballots: dict[tuple[str, str], Ballot] = {}
    for path in paths:
        value = _read(path)
        found = decode_key(value.get("key"), str(path))
        if found.page != value.get("page"):
            raise InputError(
                "the votes do not belong to the page that they name", where=str(path),
                hint="export them from the page again",
            )  # fmt: skip
        if key is not None and found.page != key.page:
            raise InputError(
                f"votes of another page: {found.page} ({', '.join(found.models)}), not {key.page} "
                f"({', '.join(key.models)}) as in {paths[0]}",
                where=str(path),
                hint="count the votes of each page by themselves",
            )
        key = found
        ballot = _ballot(value, str(path))
        kept = ballots.setdefault((ballot.kind, ballot.id), ballot)
        if kept is ballot:
            kept = ballots[ballot.kind, ballot.id] = Ballot(ballot.name, ballot.id, ballot.kind)
        kept.unreadable = max(kept.unreadable, _count(value.get("unreadable")))
        for vote in _votes(value, len(found.items), str(path)):
            known = kept.votes.get((vote.item, vote.swapped))
            kept.repeated += known is not None
            if known is None or vote.at >= known.at:
                kept.votes[vote.item, vote.swapped] = vote
    ballots = {name: one for name, one in ballots.items() if one.votes}
    if key is None or not ballots:
        raise InputError("there are no votes", where=", ".join(map(str, paths)) or "command line")
    return key, list(ballots.values())


def count_votes(key: Key, ballots: Sequence[Ballot]) -> Counted:
    """Return the votes of some voters as arrays."""
    found = []
    for number, ballot in enumerate(ballots):
        for vote in ballot.votes.values():
            item = key.items[vote.item]
            first, second = item.first, item.second
            if vote.swapped:
                first, second = second, first
            found.append((vote.item, item.row, number, first, second))
    items_N, rows_N, voters_N, first_N, second_N = np.asarray(found, np.int64).reshape(-1, 5).T
    choices = [vote.choice for ballot in ballots for vote in ballot.votes.values()]
    texts = np.asarray(choices, "<U6")
    return Counted(list(key.models), items_N, rows_N, voters_N, first_N, second_N, texts)


def write_votes(path: Path, key: Key, ballot: Ballot) -> None:
    """Write a ballot as the page exports it."""
    votes = [
        {"item": one.item, "vote": one.choice, "swapped": one.swapped, "at": one.at}
        for one in ballot.votes.values()
    ]
    voter = {"name": ballot.name, "id": ballot.id, "kind": ballot.kind}
    value = {
        "format": FORMAT, "schema": SCHEMA, "page": key.page, "key": key.encode(), "voter": voter,
        "unreadable": ballot.unreadable, "votes": votes,
    }  # fmt: skip
    write_atomic(path, json.dumps(value, ensure_ascii=False) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise InputError("no JSON", where=str(path), hint="export the votes again") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise InputError(
            "no votes", where=str(path), hint="name the files that voters export from the page"
        )
    if value.get("schema") != SCHEMA:
        raise InputError(f"votes of schema {value.get('schema')}, not {SCHEMA}", where=str(path))
    return value


def _ballot(value: dict[str, Any], where: str) -> Ballot:
    voter = value.get("voter")
    known = voter if isinstance(voter, dict) else {}
    name, number, kind = (known.get(one) for one in ("name", "id", "kind"))
    if not all(isinstance(one, str) and one for one in (name, number)):
        raise InputError("the voter has no name", where=where, hint="export the votes again")
    if kind not in (PERSON, MODEL):
        raise InputError(f"a voter is a person or a model, not {kind!r}", where=where)
    return Ballot(str(name), str(number), str(kind))


def _votes(value: dict[str, Any], items: int, where: str) -> list[Vote]:
    found, votes = value.get("votes"), []
    for entry in found if isinstance(found, list) else [None]:
        one = entry if isinstance(entry, dict) else {}
        item, choice = one.get("item"), one.get("vote")
        if type(item) is not int or not 0 <= item < items or choice not in CHOICES:
            raise InputError(
                f"no vote of this page: {json.dumps(entry)[:80]}", where=where,
                hint="export the votes again",
            )  # fmt: skip
        votes.append(Vote(item, choice, one.get("swapped") is True, str(one.get("at", ""))))
    return votes


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
