"""Versions of a row, each with the words of one group in every place where a group's word is."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from edgetune.data.rows import Message, Row
from edgetune.fairness.lists import GENDER, ORIGIN, Lists
from edgetune.fairness.words import Finder, Match
from edgetune.fairness.words import replace as replace_words

#: Versions of each group where its words may be exchanged for one another.
ALIKE = 2
NO_WORDS, MIXED, FEW_WORDS = "no such word", "words of several groups", "too few words to choose of"


@dataclass(frozen=True)
class Version:
    """A row as one of a group.

    Attributes:
        group: whose words it has.
        unit: the word that was put where the first one was; empty where there is one choice only.
        row: with these words, in its answer too.
    """

    group: str
    unit: str
    row: Row


@dataclass(frozen=True)
class SwappedRow:
    """Versions of one row: two of each group with words alike, one of each otherwise."""

    attribute: str
    versions: tuple[Version, ...]

    def pairs(self) -> list[tuple[int, int]]:
        """Return which versions are compared: those of one group, and each with the first group."""
        first = self.versions[0].group
        return [
            (i, j)
            for i, one in enumerate(self.versions)
            for j in range(i + 1, len(self.versions))
            if first == one.group or one.group == self.versions[j].group
        ]


class Swapper:
    """Makes versions of rows; words are dealt out evenly, in an order that the seed decides.

    None of the versions is the row itself: all of them have words that were put in, so that no
    group has the advantage of the original.
    """

    def __init__(self, lists: Lists, attribute: str, seed: int) -> None:
        self.lists, self.attribute = lists, attribute
        self.finder = Finder(lists, attribute)
        self.groups = lists.groups(attribute)
        self._seed, self._number = seed, 0

    def swap(self, row: Row) -> SwappedRow | str:
        """Return the row's versions, or why there are none."""
        prompt = [match for turn in row.prompt for match in self._find(turn)]
        every = prompt + [match for turn in row.messages[len(row.prompt) :]
                          for match in self._find(turn)]  # fmt: skip
        if not prompt:
            return NO_WORDS
        if self.attribute != ORIGIN and len({match.group for match in every}) > 1:
            return MIXED
        keys = dict.fromkeys((match.kind, match.key, match.other) for match in every
                             if match.kind not in ("pair", "pronoun"))  # fmt: skip
        versions = []
        for group in self.groups:
            chosen = self._choose(list(keys), group)
            if chosen is None:
                return FEW_WORDS
            for words in chosen:
                unit = next(iter(words.values()), "")
                versions.append(Version(group, unit, self._rewrite(row, group, words)))
        self._number += 1
        return SwappedRow(self.attribute, tuple(versions))

    def _find(self, turn: Message) -> Iterator[Match]:
        if turn.role != "system":
            yield from self.finder.find(turn.content)
            yield from self.finder.find(turn.more)

    def _choose(
        self, keys: Sequence[tuple[str, str, str]], group: str
    ) -> list[dict[tuple[str, str], str]] | None:
        """Return for each version what every key becomes; ``None`` where words are too few.

        Different words of a row stay different, and none stays what it was.
        """
        if not keys:
            return [{}]
        versions: list[dict[tuple[str, str], str]] = [{} for _ in range(ALIKE)]
        used: set[str] = set()
        for kind, key, other in keys:
            given = {known for of_kind, known, _ in keys if of_kind == kind}
            free = [word for word in self._deal(kind, group, other)
                    if word.lower() not in given and word not in used]  # fmt: skip
            if len(free) < ALIKE:
                return None
            for words, word in zip(versions, free[:ALIKE], strict=True):
                words[kind, key] = word
                used.add(word)
        return versions

    def _deal(self, kind: str, group: str, other: str) -> list[str]:
        """Return the words of a kind that a group has, the next to be used first."""
        if kind == "name":
            origin, gender = (other, group) if self.attribute == GENDER else (group, other)
            pool: Sequence[str] = self.lists.names.get(origin, {}).get(gender, ())
        elif kind == "surname":
            pool = self.lists.surnames.get(group, ())
        elif kind == "age":
            pool = [str(years) for years in self.lists.ages.get(group, ())]
        else:
            pool = self.lists.terms.get(self.attribute, {}).get(group, ())
        if not pool:
            return []
        start = ALIKE * self._number
        turn, at = divmod(start, len(pool))
        order = list(pool)
        random.Random(f"{self._seed} {kind} {group} {other} {turn}").shuffle(order)
        return order[at:] + order[:at]

    def _rewrite(self, row: Row, group: str, words: dict[tuple[str, str], str]) -> Row:
        def choose(match: Match) -> str:
            if match.kind == "pronoun":
                forms = self.lists.pronouns[self.attribute][group]
                return forms[("object", "noun", "alone").index(match.key)]
            if match.kind == "pair":
                return self.lists.pairs[self.attribute][int(match.key)][group][0]
            return words[match.kind, match.key]

        def swap_text(text: str) -> str:
            # What is of the group already keeps its pairs and pronouns: Mrs stays Mrs.
            matches = [
                match
                for match in self.finder.find(text)
                if match.group != group or match.kind not in ("pair", "pronoun")
            ]
            return replace_words(text, matches, choose)

        turns = tuple(
            turn
            if turn.role == "system"
            else replace(turn, content=swap_text(turn.content), more=swap_text(turn.more))
            for turn in row.messages
        )
        return replace(row, messages=turns)


def put_name(row: Row, template: str, lists: Lists) -> Row:
    """Return the row with a name beside its last question, by the user's template.

    Args:
        row: a conversation.
        template: with ``{name}`` and ``{prompt}``.
        lists: whose first name it gets, to be exchanged afterwards.
    """
    names = (name for genders in lists.names.values() for some in genders.values() for name in some)
    last = len(row.prompt) - 1
    turn = row.messages[last]
    text = template.replace("{name}", next(names, "")).replace("{prompt}", turn.content)
    turns = (*row.messages[:last], replace(turn, content=text), *row.messages[last + 1 :])
    return replace(row, messages=turns)
