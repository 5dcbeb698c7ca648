"""ChatML dialogues for pretraining: little instructions with one right answer each."""

from __future__ import annotations

import random

from tools.embedded import exercises, records

_SYSTEMS = (
    "be brief.",
    "answer with one line.",
    "you are a helpful assistant.",
    "answer in lower case.",
    "write json when asked.",
)


def _turn(role: str, content: str) -> str:
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"


def _vary(rng: random.Random, text: str) -> str:
    """The user's text with another capital or end mark, as people type."""
    if rng.random() < 0.2:
        text = text[0].upper() + text[1:]
    if rng.random() < 0.2 and text[-1].isalnum():
        text += rng.choice((".", ".", "!"))
    return text


def write_dialogue(rng: random.Random) -> str:
    """One to three turns, each an exercise of its own."""
    text = _turn("system", rng.choice(_SYSTEMS)) if rng.random() < 0.05 else ""
    for _ in range(rng.choices((1, 2, 3), (0.75, 0.15, 0.10))[0]):
        user, answer = exercises.draw_exercise(rng)
        text += _turn("user", _vary(rng, user)) + _turn("assistant", answer)
    return text


def write_report(rng: random.Random) -> str:
    """One or two turns, each a sentence as people type it and its record."""
    text = ""
    for _ in range(rng.choices((1, 2), (0.8, 0.2))[0]):
        user, answer = records.draw_record_task(rng, late=True)
        text += _turn("user", _vary(rng, user)) + _turn("assistant", answer)
    return text


def write_examples(rng: random.Random) -> str:
    """The same mapping shown several times, as turns, as lines, or inside one prompt."""
    pairs = exercises.draw_examples(rng, rng.randint(2, 5))
    roll = rng.random()
    if roll < 0.4:
        return "".join(_turn("user", user) + _turn("assistant", out) for user, out in pairs)
    if roll < 0.6:
        left, right = rng.choice((("in", "out"), ("text", "json"), ("q", "a")))
        return "\n".join(f"{left}: {user}\n{right}: {out}" for user, out in pairs)
    shown = "\n".join(f"{user} -> {out}" for user, out in pairs[:-1])
    user, out = pairs[-1]
    return _turn("user", f"{shown}\n{user} ->") + _turn("assistant", out)
