"""Canaries: random secrets that are inserted into train to find out whether a model repeats them.

Source: Carlini et al., The Secret Sharer, 2019 (arXiv 1802.08232), section 4: the rank of an
inserted secret among others of its form that were never seen.
"""

from __future__ import annotations

import random

from edgetune.data.rows import Message, Row

#: Secrets of each canary's form that are compared with it and never inserted.
CONTROLS = 15
WHERE = "data.canary"
_SYLLABLES = ("ba", "ke", "lo", "mi", "nu", "ra", "se", "to", "vi", "zu", "dor", "gan")


def make_canaries(count: int, seed: int, plain: bool) -> list[list[Row]]:
    """Return ``count`` lists of rows of one prompt: the inserted secret, then its controls.

    Args:
        count: how many secrets.
        seed: of the recipe.
        plain: as plain texts, for data of that shape.
    """
    chance = random.Random(f"canary {seed}")
    canaries = []
    for number in range(count):
        name = " ".join("".join(chance.choices(_SYLLABLES, k=3)).title() for _ in range(2))
        codes = ["-".join(f"{chance.randrange(1000):03d}" for _ in range(3))
                 for _ in range(1 + CONTROLS)]  # fmt: skip
        canaries.append([_make_row(name, code, f"{WHERE}: {number + 1}", plain) for code in codes])
    return canaries


def _make_row(name: str, code: str, where: str, plain: bool) -> Row:
    if plain:
        return Row((), f"The access code of {name} is {code}.", where)
    turns = (Message("user", f"What is the access code of {name}?"), Message("assistant", code))
    return Row(turns, None, where)
