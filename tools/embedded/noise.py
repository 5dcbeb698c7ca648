"""Misspellings and polite words, as people type and say them."""

from __future__ import annotations

import random

from tools.embedded import lexicon

_BEFORE = ("please note,", "hey", "okay", "so", "now", "you know", "and", "can you believe it,")
_AFTER = ("please", "thanks", "thank you", "for me", "you know", "i think")


def misspell(rng: random.Random, word: str) -> str:
    """Swap, drop or double one letter between the first and the last; at least three letters."""
    at, roll = rng.randrange(1, len(word) - 1), rng.random()
    if roll < 0.33:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word[:at] + word[at + 1 :] if roll < 0.67 else word[:at] + word[at] + word[at:]


def add_typo(rng: random.Random, template: str) -> str:
    """Misspell one of the template's own longer words.

    Slot values are still fields here, so they stay as they are; the first letter stays too, and
    a typo that happens to make another listed word is not taken.
    """
    words = template.split()
    long = [i for i, word in enumerate(words) if word.isalpha() and len(word) > 4]
    if not long:
        return template
    at = rng.choice(long)
    wrong = misspell(rng, words[at])
    if wrong in lexicon.all_words():
        return template
    return " ".join([*words[:at], wrong, *words[at + 1 :]])


def dress(rng: random.Random, template: str) -> str:
    """The template with a typo, or with polite words around it; two thirds stay plain."""
    roll = rng.random()
    if roll < 0.15:
        return add_typo(rng, template)
    if roll < 0.27:
        return f"{rng.choice(_BEFORE)} {template}"
    if roll < 0.33 and not template.endswith("}"):
        return f"{template} {rng.choice(_AFTER)}"
    return template
