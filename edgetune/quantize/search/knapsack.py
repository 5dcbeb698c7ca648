"""Multiple-choice knapsack: a type per tensor, of the lowest summed KL within a number of bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from edgetune.errors import InputError

STEPS = 1 << 15  # bytes are counted in this many steps of the range between smallest and largest


class Option(NamedTuple):
    """A type a tensor can have: its bytes in the file and its KL increase, in nats."""

    type: str
    bytes: int
    kl: float


def assign_types(options: Mapping[str, Sequence[Option]], budget: int) -> dict[str, Option]:
    """Return one option per tensor, together at most ``budget`` bytes and of the lowest summed KL.

    The multiple-choice knapsack, by dynamic programming over bytes (Kellerer, Pferschy and
    Pisinger 2004, Knapsack Problems, section 11.5): exact but for rounding bytes up to steps, and
    what that leaves is spent on the best single exchanges.

    Raises:
        InputError: the smallest options together are over the budget.
    """
    names = list(options)
    chosen = {name: min(options[name], key=lambda one: (one.bytes, one.kl)) for name in names}
    least = total_bytes(chosen)
    if least > budget:
        raise InputError(f"the smallest types need {least} bytes, {least - budget} too many")
    most = sum(max(one.bytes for one in options[name]) for name in names)
    step = max(1, -(-(min(budget, most) - least) // STEPS))
    room = (min(budget, most) - least) // step
    kl_K = np.zeros(room + 1)
    choices: list[np.ndarray] = []
    for name in names:
        best_K, choice_K = np.full(room + 1, np.inf), np.zeros(room + 1, np.uint8)
        for number, option in enumerate(options[name]):
            cost = -(-(option.bytes - chosen[name].bytes) // step)
            if cost > room:
                continue
            with_K = np.full(room + 1, np.inf)
            with_K[cost:] = kl_K[: room + 1 - cost] + option.kl
            better_K = with_K < best_K
            best_K[better_K], choice_K[better_K] = with_K[better_K], number
        kl_K = best_K
        choices.append(choice_K)
    left, found = room, {}
    for name, choice_K in zip(reversed(names), reversed(choices), strict=True):
        option = options[name][int(choice_K[left])]
        left -= -(-(option.bytes - chosen[name].bytes) // step)
        found[name] = option
    return _spend_rest({name: found[name] for name in names}, options, budget)


def total_bytes(chosen: Mapping[str, Option]) -> int:
    """Return the bytes of an assignment."""
    return sum(option.bytes for option in chosen.values())


def convex_frontier(options: Sequence[Option]) -> list[Option]:
    """Return the options that are best for some price of a byte, smallest first."""
    kept: list[Option] = []
    for one in sorted(options, key=lambda o: (o.bytes, o.kl)):
        if kept and one.kl >= kept[-1].kl:
            continue
        while len(kept) > 1 and _slope(kept[-2], kept[-1]) >= _slope(kept[-1], one):
            kept.pop()
        kept.append(one)
    return kept


def _spend_rest(
    chosen: dict[str, Option], options: Mapping[str, Sequence[Option]], budget: int
) -> dict[str, Option]:
    """Take the exchange that gains most while one fits."""
    while True:
        left = budget - total_bytes(chosen)
        gains = [
            (chosen[name].kl - option.kl, name, option)
            for name in chosen
            for option in options[name]
            if option.bytes - chosen[name].bytes <= left and option.kl < chosen[name].kl
        ]
        if not gains:
            return chosen
        _, name, option = max(gains, key=lambda gain: gain[0])
        chosen[name] = option


def _slope(a: Option, b: Option) -> float:
    return (b.kl - a.kl) / max(1, b.bytes - a.bytes)
