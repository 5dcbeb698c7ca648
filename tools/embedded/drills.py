"""Drills for pretraining: long answers in which every token is found in the prompt, or is a number
or a clock time that the prompt spells.

Without them the model had learnt the record schemas after 1.6 million tokens, but put random
listed values into them: the prompts' unpredictable names drown what little copying shows.
"""

from __future__ import annotations

import json
import random

from tools.embedded import exercises, spoken
from tools.embedded import lexicon as lx


def _draw_item(rng: random.Random, kind: float) -> str:
    if kind < 0.35:
        return rng.choice(lx.all_words())
    if kind < 0.6:
        return lx.invent_word(rng)
    if kind < 0.7:
        return str(rng.randint(0, 300))
    return exercises.draw_phrase(rng)


def _draw_items(rng: random.Random, count: int) -> list[str]:
    kind = rng.random()
    return [_draw_item(rng, kind) for _ in range(count)]


def _repeat_list(rng: random.Random) -> tuple[str, str]:
    items = _draw_items(rng, rng.randint(3, 10))
    joined = rng.choice((" ", ", ", "\n", " and ")).join(items)
    times = rng.choice((1, 1, 2))
    return f"repeat: {joined}", "\n".join([joined] * times)


def _quote_list(rng: random.Random) -> tuple[str, str]:
    items = _draw_items(rng, rng.randint(2, 8))
    ask = rng.choice(("as json list: {}", "quote {}", "list {} in json"))
    return ask.format(", ".join(items)), json.dumps(items)


def _look_up(rng: random.Random) -> tuple[str, str]:
    count = rng.randint(2, 6)
    keys = list(dict.fromkeys(_draw_items(rng, count)))
    pairs = dict(zip(keys, _draw_items(rng, count), strict=False))
    said = ", ".join(f"{key} is {value}" for key, value in pairs.items())
    if rng.random() < 0.6:
        return f"json: {said}", json.dumps(pairs)
    asked = rng.sample(sorted(pairs), rng.randint(1, len(pairs)))
    return f"{said}. {', '.join(asked)}?", ", ".join(pairs[key] for key in asked)


def _fill(rng: random.Random) -> tuple[str, str]:
    frame = rng.choice(("{} and {} went home", "{} met {} by the {}", "the {} of {}", "{}, {}: {}"))
    items = _draw_items(rng, frame.count("{}"))
    keys = rng.sample(("a", "b", "c", "one", "two", "x", "y", "first", "next"), len(items))
    record = dict(zip(keys, items, strict=True))
    return f"{', '.join(keys)}: {frame.format(*items)}", json.dumps(record)


def _write_digits(rng: random.Random) -> tuple[str, str]:
    top = rng.choice((20, 100, 100, 300))
    numbers = [rng.randint(0, top) for _ in range(rng.randint(2, 8))]
    said = rng.choice((", ", " and ", "\n")).join(spoken.say_number(rng, n) for n in numbers)
    ask = rng.choice(("digits: {}", "numbers: {}", "{} in digits"))
    return ask.format(said), ", ".join(map(str, numbers))


def _write_clocks(rng: random.Random) -> tuple[str, str]:
    minutes = tuple(range(60)) if rng.random() < 0.2 else tuple(range(0, 60, 5))
    times = [spoken.draw_time(rng, minutes) for _ in range(rng.randint(2, 5))]
    said = [spoken.say_time(rng, *time) for time in times]
    right = [spoken.format_time(*time) for time in times]
    if rng.random() < 0.5:
        return f"clock: {', '.join(said)}", ", ".join(right)
    names = rng.sample(lx.NAMES, len(times))
    verb = rng.choice(("comes", "leaves", "wakes", "eats", "calls"))
    told = ", ".join(f"{name} {verb} at {when}" for name, when in zip(names, said, strict=True))
    return f"hours: {told}", json.dumps(dict(zip(names, right, strict=True)))


_DRILLS = (_repeat_list, _quote_list, _look_up, _fill, _write_digits, _write_clocks)


def write_drill(rng: random.Random) -> str:
    """One ChatML document with one drill."""
    user, answer = rng.choice(_DRILLS)(rng)
    return f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"
