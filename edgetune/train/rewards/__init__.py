"""REWARDS: what sampled answers are rewarded for, one row each.

A new reward is a function ``make(value, scope)`` in a module here and one row. It returns a
function that scores the answers of a batch, and finds before any training what is wrong with the
value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from edgetune.data.rows import Row
from edgetune.errors import InputError, nearest
from edgetune.recipe.sampling import Reward, SamplingSection
from edgetune.runtimes.python_function import FUNCTION

#: Scores of the answers of a batch, whose rows are given beside them.
Score = Callable[[Sequence[Row], Sequence[str]], list[float]]


@dataclass(frozen=True)
class Scope:
    """What a reward may need beside its value.

    Attributes:
        device: that a reward model runs on.
        seconds: that a function of the user may take for a batch.
        models: folders of reward models that earlier steps of the recipe trained, by their names.
    """

    device: str = "cpu"
    seconds: float = 10.0
    models: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class RewardRow:
    """One reward.

    Attributes:
        summary: what it gives 1 for.
        module: the module of this package whose ``make_NAME(value, scope)`` makes it.
        value: what is written behind its name; empty where nothing is.
    """

    summary: str
    module: str
    value: str = ""


REWARDS: dict[str, RewardRow] = {
    "json": RewardRow("an answer that is JSON", "content"),
    "json_schema": RewardRow("JSON that a schema accepts", "content", "FILE"),
    "json_fields": RewardRow("the share of the row's JSON fields that are right", "content"),
    "regex": RewardRow("an answer that a pattern fits as a whole", "content", "PATTERN"),
    "exact": RewardRow("the row's own answer", "content"),
    "numeric": RewardRow("the last number of the row's answer", "content"),
    "length": RewardRow("an answer of at most so many characters", "content", "CHARACTERS"),
    "model": RewardRow("the score of a reward model", "model", "FOLDER"),
}


@dataclass(frozen=True)
class NamedReward:
    """A reward of a recipe: its name, its weight, and what scores answers."""

    name: str
    weight: float
    score: Score

    def __call__(self, rows: Sequence[Row], answers: Sequence[str]) -> list[float]:
        """Return the score of each answer.

        Raises:
            InputError: a score that is no finite number, with the row.
        """
        found = self.score(rows, answers)
        for row, answer, value in zip(rows, answers, found, strict=True):
            if not math.isfinite(value):
                raise InputError(
                    f"the reward {self.name} gives {value} for the answer {answer[:80]!r}",
                    where=row.where,
                    hint="a reward is a finite number for every answer",
                )
        return found


def check_rewards(section: SamplingSection, where: str) -> None:
    """Refuse rewards that are written wrongly, without loading what they name.

    Raises:
        InputError: no reward, an unknown one, one written otherwise, or a file that is not there.
    """
    for given in _list(section, where):
        name, _, value = given.reward.partition(":")
        if match := FUNCTION.fullmatch(given.reward):
            name, value = "", match["file"]
        else:
            _find(given, f"{where}.rewards")
        if (not name or REWARDS[name].value == "FILE") and not Path(value).is_file():
            raise InputError("no such file", where=f"{where}.rewards: {value}")


def make_rewards(section: SamplingSection, scope: Scope, where: str) -> list[NamedReward]:
    """Return the rewards of a recipe, each ready to score answers.

    Args:
        section: settings of the objective.
        scope: what rewards may need.
        where: the section's dotted name, for messages.

    Raises:
        InputError: no reward, an unknown one, or one whose value does not work.
    """
    return [_make(one, scope, f"{where}.rewards") for one in _list(section, where)]


def _list(section: SamplingSection, where: str) -> list[Reward]:
    if not section.rewards:
        raise InputError(
            "no reward is named, so nothing would be learned",
            where=f"{where}.rewards",
            hint=f"name one or several of {', '.join(REWARDS)}, or FILE.py:FUNCTION",
        )
    return [one if isinstance(one, Reward) else Reward(reward=one) for one in section.rewards]


def _make(given: Reward, scope: Scope, where: str) -> NamedReward:
    if match := FUNCTION.fullmatch(given.reward):
        from edgetune.train.rewards.python_file import PythonReward

        score = PythonReward(Path(match["file"]), match["name"], scope.seconds)
        return NamedReward(match["name"], given.weight, score)
    row = _find(given, where)
    name, _, value = given.reward.partition(":")
    module = import_module(f"{__name__}.{row.module}")
    make: Callable[[str, Scope], Score] = getattr(module, f"make_{name}")
    return NamedReward(name, given.weight, make(value, scope))


def _find(given: Reward, where: str) -> RewardRow:
    """Return the row of a reward that is written as it is to be.

    Raises:
        InputError: an unknown one, or one written otherwise.
    """
    name, colon, _ = given.reward.partition(":")
    row = REWARDS.get(name)
    if row is None:
        raise InputError(
            f"no reward '{name}'{nearest(name, REWARDS)}",
            where=where,
            hint=f"there are {', '.join(REWARDS)}; a function of yours is FILE.py:FUNCTION",
        )
    if bool(row.value) != bool(colon):
        wanted = f"{name}:{row.value}" if row.value else name
        raise InputError(f"the reward '{given.reward}' is written {wanted}", where=where)
    return row
