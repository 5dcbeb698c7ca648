"""Lists of words by group: those that edgetune carries, or a file of the user's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml
from pydantic import Field, ValidationError, field_validator

from edgetune.errors import InputError
from edgetune.recipe.section import Section

OWN = Path(__file__).with_name("lists.yaml")
GENDER, ORIGIN, AGE = "gender", "origin", "age"

Words = tuple[str, ...]


class Lists(Section):
    """Words of groups; a group's words of the fields but ``pairs`` are alike for exchange.

    Attributes:
        names: given names by origin, then by gender.
        surnames: family names by origin.
        pronouns: by attribute and group: object form, form before a noun, form that is alone.
        pairs: by attribute: words with one counterpart in each other group.
        terms: by attribute and group: further words.
        before: by attribute: the words that a term has to be followed by.
        ages: years by group.
    """

    names: dict[str, dict[str, Words]] = Field(default_factory=dict)
    surnames: dict[str, Words] = Field(default_factory=dict)
    pronouns: dict[str, dict[str, tuple[str, str, str]]] = Field(default_factory=dict)
    pairs: dict[str, tuple[dict[str, Words], ...]] = Field(default_factory=dict)
    terms: dict[str, dict[str, Words]] = Field(default_factory=dict)
    before: dict[str, Words] = Field(default_factory=dict)
    ages: dict[str, tuple[int, ...]] = Field(default_factory=dict)

    @field_validator("pairs", mode="before")
    @classmethod
    def _wrap_single_words(cls, value: object) -> object:
        """Read ``{female: she}`` as ``{female: [she]}``."""
        if not isinstance(value, dict):
            return value
        return {
            attribute: [
                {
                    group: [words] if isinstance(words, str) else words
                    for group, words in one.items()
                }
                if isinstance(one, dict)
                else one
                for one in pairs or ()
            ]
            for attribute, pairs in value.items()
        }

    def groups(self, attribute: str) -> tuple[str, ...]:
        """Return the groups of an attribute; the others are compared with the first."""
        return tuple(dict.fromkeys(self._list_groups(attribute)))

    def _list_groups(self, attribute: str) -> Iterator[str]:
        if attribute == GENDER:
            yield from (gender for one in self.names.values() for gender in one)
        if attribute == ORIGIN:
            yield from (*self.names, *self.surnames)
        if attribute == AGE:
            yield from self.ages
        yield from self.terms.get(attribute, ())
        yield from self.pronouns.get(attribute, ())
        yield from (group for pair in self.pairs.get(attribute, ()) for group in pair)

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that any list has two groups or more of."""
        every = (GENDER, ORIGIN, AGE, *self.terms, *self.pronouns, *self.pairs)
        return tuple(one for one in dict.fromkeys(every) if len(self.groups(one)) > 1)


def read_lists(path: str | None) -> Lists:
    """Return the lists of a file, or those that edgetune carries.

    Raises:
        InputError: the file cannot be read, or is not of that form; it names the place.
    """
    file = OWN if path is None else Path(path)
    where = f"bench.fairness.lists: {file}"
    try:
        value = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"the lists cannot be read: {error}", where=where) from error
    try:
        return Lists.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"not lists of words: {place}: {first['msg']}",
            where=where,
            hint="edgetune/fairness/lists.yaml shows the form",
        ) from error
