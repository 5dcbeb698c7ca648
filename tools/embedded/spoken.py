"""Spoken numbers, clock times and durations, with the one normal form each of them stands for.

One convention holds everywhere: an hour said without a part of the day is a morning hour
("half past seven" is 07:30), and twelve o'clock is only ever said as noon or midnight. So every
spoken form has exactly one answer.
"""

from __future__ import annotations

import random

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen",
    "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = (
    "zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
)  # fmt: skip


def spell_number(number: int) -> str:
    """English words of an integer from 0 to 999, without hyphens ("one hundred forty two")."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        rest = number % 10
        return _TENS[number // 10] + (f" {_ONES[rest]}" if rest else "")
    rest = number % 100
    return f"{_ONES[number // 100]} hundred" + (f" {spell_number(rest)}" if rest else "")


def say_number(rng: random.Random, number: int) -> str:
    """The number as digits or as words, one as often as the other."""
    return str(number) if rng.random() < 0.5 else spell_number(number)


def draw_time(
    rng: random.Random, minutes: tuple[int, ...] = tuple(range(0, 60, 5))
) -> tuple[int, int]:
    """A random (hour, minute) that `say_time` can say without ambiguity."""
    roll = rng.random()
    if roll < 0.03:
        return (12, 0)
    if roll < 0.05:
        return (0, 0)
    # Full, half and quarter hours are said more often than the rest.
    common = [m for m in minutes if m in (0, 15, 30, 45)]
    minute = rng.choice(common) if common and rng.random() < 0.55 else rng.choice(minutes)
    hour = rng.choice([*range(5, 12), *range(1, 12), *range(13, 23)])
    return (hour, minute)


def format_time(hour: int, minute: int) -> str:
    """The normal form, "HH:MM" on the 24-hour clock."""
    return f"{hour:02d}:{minute:02d}"


def _say_clock(rng: random.Random, hour: int, minute: int) -> str:
    """The 12-hour reading of a time, without the part of the day."""
    said, following = spell_number(hour), spell_number(hour % 12 + 1)
    forms = [f"{hour}:{minute:02d}"]
    if minute == 0:
        forms += [f"{said} o'clock", said, str(hour)]
    elif minute >= 10:
        forms.append(f"{said} {spell_number(minute)}")
    else:
        forms.append(f"{said} oh {spell_number(minute)}")
    # "to one" would name an hour after twelve, which this convention never says.
    if minute == 30:
        forms.append(f"half past {said}")
    elif minute == 15:
        forms.append(f"quarter past {said}")
    elif minute == 45 and hour != 12:
        forms.append(f"quarter to {following}")
    elif minute in (5, 10, 20, 25):
        forms.append(f"{spell_number(minute)} past {said}")
    elif minute in (35, 40, 50, 55) and hour != 12:
        forms.append(f"{spell_number(60 - minute)} to {following}")
    return rng.choice(forms)


def say_time(rng: random.Random, hour: int, minute: int) -> str:
    """One spoken or written form of a time from `draw_time`."""
    if (hour, minute) == (12, 0):
        return "noon"
    if (hour, minute) == (0, 0):
        return "midnight"
    if hour < 12:
        clock = _say_clock(rng, hour, minute)
        if rng.random() < 0.6:
            return clock
        return f"{clock} {'am' if rng.random() < 0.5 or hour < 5 else 'in the morning'}"
    if rng.random() < 0.15:
        return format_time(hour, minute)
    clock = _say_clock(rng, hour - 12, minute)
    if rng.random() < 0.5:
        return f"{clock} pm"
    return f"{clock} {'in the afternoon' if hour < 17 else 'in the evening'}"


def say_duration(rng: random.Random, amount: int, unit: str) -> str:
    """A spoken duration; `unit` is "seconds" or "minutes". Whole hours are counted in minutes."""
    if unit == "minutes":
        named = {15: "a quarter of an hour", 30: "half an hour", 60: "an hour"}
        named |= {90: "an hour and a half", 120: "two hours", 180: "three hours"}
        if amount in named and (amount > 60 or rng.random() < 0.5):
            return named[amount]
    return f"{say_number(rng, amount)} {unit if amount != 1 else unit[:-1]}"
