"""How often train has the words of each group, in all and by answer."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from edgetune.data.rows import Row
from edgetune.facts import GroupBalance
from edgetune.fairness.lists import Lists
from edgetune.fairness.words import Finder

COUNTED_ROWS = 20_000  # of train, chosen by the seed
MOST_LABELS = 20


def count_balance(
    rows: Sequence[Row], lists: Lists, attributes: Sequence[str], seed: int
) -> list[GroupBalance]:
    """Return the rows of each group, by answer where there are at most 20 different ones.

    A row counts for each group whose words its prompt has.
    """
    count = min(len(rows), COUNTED_ROWS)
    numbers = random.Random(f"balance {seed}").sample(range(len(rows)), count)
    some = [rows[number] for number in sorted(numbers)]
    labels = {row.answer.strip() for row in some}
    are_labels = len(labels) <= MOST_LABELS and all(row.text is None for row in some)
    found = []
    for attribute in dict.fromkeys(attributes):
        finder = Finder(lists, attribute)
        counts: dict[str, Counter[str]] = {group: Counter() for group in lists.groups(attribute)}
        for row in some:
            texts = [turn.content for turn in row.prompt if turn.role != "system"]
            texts = texts if row.text is None else [row.text]
            for group in {match.group for text in texts for match in finder.find(text)}:
                counts[group][row.answer.strip() if are_labels else ""] += 1
        for group, by_label in counts.items():
            shown = dict(by_label.most_common()) if are_labels else {}
            found.append(GroupBalance(attribute, group, by_label.total(), len(some), shown))
    return found
