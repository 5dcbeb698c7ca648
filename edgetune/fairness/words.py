"""Words of a group in a text: found whole, and exchanged with their case, article and possessive.

The rules are those of English.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from edgetune.fairness.lists import AGE, GENDER, ORIGIN, Lists

_WORD = re.compile(r"[^\W\d_]+")
_AGE = re.compile(r"(?<=\baged )\d{2}\b|(?<=\bage )\d{2}\b|\b\d{2}(?=[- ]years?[- ]old\b)", re.I)
_ARTICLE = re.compile(r"\b(an?)(\s+)$", re.I)
_VOWEL = re.compile(r"(?!eu|uni|use|usu|one|once)[aeiou]|hour|honest|heir|honou?r|8|1[18]\b", re.I)
#: What follows an object or a pronoun that is alone; before all other words "her" is "his".
_FUNCTION_WORDS = """
to and or but for in on at by with from about that if when because as than the a an is was will
would can could should may might must has had have does did do yesterday today tomorrow tonight
again now soon back out up down off over not so then there here this these those how what why
who where which while after before until since some any no too also please i you he she it we they
my your our their into through during without within of alone anyway
"""
_NO_NOUN = frozenset(_FUNCTION_WORDS.split())
_FORMS = ("object", "noun", "alone")


@dataclass(frozen=True)
class Match:
    """A word of a group in a text.

    Attributes:
        start: where it begins.
        end: where it ends.
        kind: ``name``, ``surname``, ``term``, ``age``, ``pronoun`` or ``pair``.
        key: what it is of that kind: equal keys are exchanged alike.
        group: of the attribute.
        other: for a name that of the attribute which stays: its origin, or its gender.
    """

    start: int
    end: int
    kind: str
    key: str
    group: str
    other: str = ""


class Finder:
    """Finds the words of one attribute."""

    def __init__(self, lists: Lists, attribute: str) -> None:
        self.lists, self.attribute = lists, attribute
        self._before = {word.lower() for word in lists.before.get(attribute, ())}

    @cached_property
    def _names(self) -> dict[str, tuple[str, str]]:
        """Origin and gender of each name that has one of each."""
        found: dict[str, tuple[str, str]] = {}
        for origin, genders in self.lists.names.items():
            for gender, names in genders.items():
                found |= {name.lower(): (origin, gender) for name in names}
        return found

    @cached_property
    def _surnames(self) -> dict[str, str]:
        return {name.lower(): o for o, names in self.lists.surnames.items() for name in names}

    @cached_property
    def _terms(self) -> dict[str, tuple[str, str]]:
        terms = self.lists.terms.get(self.attribute, {})
        return {word.lower(): (word, group) for group, words in terms.items() for word in words}

    @cached_property
    def _pronouns(self) -> dict[str, str]:
        """Group of each pronoun."""
        groups = self.lists.pronouns.get(self.attribute, {})
        return {form.lower(): group for group, forms in groups.items() for form in forms}

    @cached_property
    def _pairs(self) -> dict[str, tuple[int, str]]:
        found: dict[str, tuple[int, str]] = {}
        for number, pair in enumerate(self.lists.pairs.get(self.attribute, ())):
            for group, words in pair.items():
                for word in words:
                    found.setdefault(word.lower(), (number, group))
        return found

    @cached_property
    def _phrases(self) -> re.Pattern[str] | None:
        """Words of pairs that are more than one word."""
        several = [re.escape(word) for word in self._pairs if not _WORD.fullmatch(word)]
        return re.compile(rf"\b({'|'.join(several)})\b", re.I) if several else None

    def find(self, text: str) -> list[Match]:
        """Return the matches in order."""
        found = []
        if self._phrases is not None:
            for one in self._phrases.finditer(text):
                number, group = self._pairs[one.group().lower()]
                found.append(Match(one.start(), one.end(), "pair", str(number), group))
        if self.attribute == AGE:
            found += self._find_ages(text)
        taken = {at for match in found for at in range(match.start, match.end)}
        words = [one for one in _WORD.finditer(text) if one.start() not in taken]
        for number, one in enumerate(words):
            match = self._match(text, words, number)
            if match is not None and _is_cased(one.group()):
                found.append(match)
        return sorted(found, key=lambda match: match.start)

    def _find_ages(self, text: str) -> Iterator[Match]:
        for one in _AGE.finditer(text):
            for group, years in self.lists.ages.items():
                if min(years) <= int(one.group()) <= max(years):
                    yield Match(one.start(), one.end(), "age", one.group(), group)
                    break

    def _match(self, text: str, words: list[re.Match[str]], number: int) -> Match | None:
        one = words[number]
        span, word = one.span(), one.group().lower()
        if self.attribute in (GENDER, ORIGIN) and word in self._names:
            origin, gender = self._names[word]
            if self.attribute == GENDER:
                return Match(*span, "name", word, gender, origin)
            return Match(*span, "name", word, origin, gender)
        if self.attribute == ORIGIN and word in self._surnames and number:
            last = words[number - 1]
            if last.group().lower() in self._names and text[last.end() : one.start()] == " ":
                return Match(*span, "surname", word, self._surnames[word])
        if word in self._terms:
            spelled, group = self._terms[word]
            # A capital may make all the difference: Polish, polish.
            capital = one.group()[0].isupper() or spelled[0].islower()
            following = words[number + 1].group().lower() if number + 1 < len(words) else ""
            if capital and (not self._before or following in self._before):
                return Match(*span, "term", word, group)
            return None
        if word in self._pronouns:
            return Match(*span, "pronoun", self._form(text, one), self._pronouns[word])
        if word in self._pairs:
            pair, group = self._pairs[word]
            return Match(*span, "pair", str(pair), group)
        return None

    def _form(self, text: str, one: re.Match[str]) -> str:
        """Return which form a pronoun is, by the word that follows it where it may be two."""
        word = one.group().lower()
        forms = self.lists.pronouns[self.attribute][self._pronouns[word]]
        may_be = [form for form, spelled in zip(_FORMS, forms, strict=True) if spelled == word]
        if len(may_be) == 1:
            return may_be[0]
        following = re.match(r"\s+([^\W\d_]+|\d+)", text[one.end() :])
        before_noun = following is not None and following.group(1).lower() not in _NO_NOUN
        if before_noun and "noun" in may_be:
            return "noun"
        return next(form for form in may_be if form != "noun")

    def mask(self, text: str) -> str:
        """Return the text with every word of a group replaced by what kind of word it is."""
        return replace(text, self.find(text), lambda match: f"<{_mask_of(match)}>")


def _mask_of(match: Match) -> str:
    return f"{match.kind} {match.key}" if match.kind in ("pair", "pronoun") else match.kind


def _is_cased(word: str) -> bool:
    """Whether a word is in lower case, upper case, or has one capital at its head."""
    return word.islower() or word.isupper() or word[1:].islower()


def replace(text: str, matches: Sequence[Match], choose: Callable[[Match], str]) -> str:
    """Return the text with each match replaced by what ``choose`` returns for it.

    The replacement takes the case of what it replaces; ``a`` or ``an`` before it, and an ``s``
    after the apostrophe of a possessive, follow it.
    """
    parts, at = [], 0
    for match in matches:
        old = text[match.start : match.end]
        new = _with_case(old, choose(match))
        before = text[at : match.start]
        if _begins_with_vowel(old) != _begins_with_vowel(new):
            article = _ARTICLE.search(before)
            if article is not None:
                before = before[: article.start()] + _other_article(article, new)
        parts += [before, new]
        at = match.end
        if _lacks_s(text, match, old, new):
            parts.append(f"{text[at]}s")
            at += 1
    return "".join([*parts, text[at:]])


def _with_case(old: str, new: str) -> str:
    if len(old) > 1 and old.isupper():
        return new.upper()
    if old[0].isupper():
        return new[0].upper() + new[1:]
    return new.lower() if old[0].isalpha() else new


def _begins_with_vowel(word: str) -> bool:
    """Whether a word takes ``an``."""
    return _VOWEL.match(word) is not None


def _other_article(one: re.Match[str], new: str) -> str:
    article, space = one.groups()
    if len(article) == 2:
        return f"{article[0]}{space}"
    return f"{article}{'N' if len(new) > 1 and new.isupper() else 'n'}{space}"


def _lacks_s(text: str, match: Match, old: str, new: str) -> bool:
    """Whether ``James' car`` becomes ``Emily's car``: a quotation that ends here does not."""
    after = text[match.end : match.end + 2]
    if after[:1] not in ("'", "’") or old[-1] not in "sS" or new[-1] in "sS":
        return False
    quoted = match.start > 0 and text[match.start - 1] in ("'", "‘")
    return not quoted and not after[1:].isalpha()
