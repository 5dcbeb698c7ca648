"""Swapped rows: whole words, coherent within a row, with case, article and possessive."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from edgetune.data.rows import Message, Row
from edgetune.errors import InputError
from edgetune.fairness.lists import Lists, read_lists
from edgetune.fairness.swap import FEW_WORDS, MIXED, NO_WORDS, SwappedRow, Swapper, put_name
from edgetune.fairness.words import Finder
from edgetune.fairness.workload import check_fairness
from edgetune.recipe.fairness import FairnessSection

LISTS = read_lists(None)


def make_row(prompt: str, answer: str = "yes") -> Row:
    return Row((Message("user", prompt), Message("assistant", answer)), None, "r")


def swap(attribute: str, prompt: str, answer: str = "yes", seed: int = 0) -> SwappedRow | str:
    return Swapper(LISTS, attribute, seed).swap(make_row(prompt, answer))


def texts(swapped: SwappedRow | str, group: str) -> list[tuple[str, str, str]]:
    assert isinstance(swapped, SwappedRow)
    return [(one.unit, one.row.messages[0].content, one.row.answer)
            for one in swapped.versions if one.group == group]  # fmt: skip


@pytest.mark.parametrize(
    "text, female, male",
    [
        ("{male} lost his card.", "{} lost her card.", "{} lost his card."),
        ("{male} says the card is his.", "{} says the card is hers.", "{} says the card is his."),
        ("{female} called; help her.", "{} called; help her.", "{} called; help him."),
        ("{female}: give her card back", "{}: give her card back", "{}: give his card back"),
        ("{female}: ask her to pay", "{}: ask her to pay", "{}: ask him to pay"),
        ("{female} HERSELF, a waitress", "{} HERSELF, a waitress", "{} HIMSELF, a waiter"),
        ("{male} is an actor", "{} is an actress", "{} is an actor"),
        ("Mr {male}'s bag", "Ms {}'s bag", "Mr {}'s bag"),
        ("{female} history theme", "{} history theme", "{} history theme"),
    ],
)
def test_every_word_of_a_person_follows(text: str, female: str, male: str) -> None:
    swapped = swap("gender", text.format(female="Emily", male="Peter"))
    for group, wanted in (("female", female), ("male", male)):
        versions = texts(swapped, group)
        assert len(versions) == 2 and len({unit for unit, _, _ in versions}) == 2
        for unit, prompt, _ in versions:
            assert prompt == wanted.format(unit)
            assert unit in LISTS.names["english"][group] and unit not in ("Emily", "Peter")


def test_an_answer_that_repeats_the_name_has_the_new_one() -> None:
    swapped = swap("origin", "Emily Smith, an American customer", '{"name": "Emily Smith"}')
    for group in LISTS.groups("origin"):
        for unit, prompt, answer in texts(swapped, group):
            first, last = prompt.split(",")[0].split(" ")
            assert first == unit in LISTS.names[group]["female"]
            assert last in LISTS.surnames[group]
            assert answer == f'{{"name": "{first} {last}"}}'
            nation = prompt.split()[3]
            assert nation in LISTS.terms["origin"][group]
            assert prompt.split()[2] == ("an" if nation[0] in "AEIOU" else "a")


@pytest.mark.parametrize(
    "text", ["James' bag", "james bag", "JAMES BAG", "the sheriff's theme, he", "A 'James' b"]
)
def test_case_and_possessive_are_kept(text: str) -> None:
    swapped = swap("gender", text)
    for unit, prompt, _ in texts(swapped, "female"):
        wanted = {"james bag": f"{unit.lower()} bag", "JAMES BAG": f"{unit.upper()} BAG",
                  "James' bag": f"{unit}'s bag", "the sheriff's theme, he":
                  "the sheriff's theme, she", "A 'James' b": f"A '{unit}' b"}  # fmt: skip
        assert prompt == wanted[text]


@pytest.mark.parametrize(
    "attribute, prompt, why",
    [
        ("gender", "What is my balance?", NO_WORDS),
        ("gender", "He and his wife", MIXED),
        ("gender", "Marked, graceful, jamestown, shelter, other", NO_WORDS),
        ("origin", "I would like American food and Chinese tea", NO_WORDS),
        ("origin", "Mr Smith and Mrs Park", NO_WORDS),  # a family name alone may be any word
        ("age", "He is 23 and has waited 45 years, aged well", NO_WORDS),
        ("gender", " and ".join(LISTS.names["english"]["male"]), FEW_WORDS),
    ],
)
def test_rows_that_cannot_be_swapped_are_left_out(attribute: str, prompt: str, why: str) -> None:
    assert swap(attribute, prompt) == why


def test_ages_are_swapped_with_their_article() -> None:
    swapped = swap("age", "a 23-year-old, aged 23 (23 years old)")
    for unit, prompt, _ in texts(swapped, "older"):
        assert prompt == f"a {unit}-year-old, aged {unit} ({unit} years old)"
    lists = LISTS.model_copy(update={"ages": {"younger": (19, 21, 23), "older": (80, 81, 82)}})
    found = Swapper(lists, "age", 0).swap(make_row("a 23-year-old"))
    for unit, prompt, _ in texts(found, "older"):
        assert prompt == f"an {unit}-year-old"


def test_random_rows_keep_all_other_words_and_differ_only_where_a_word_was() -> None:
    """200 random texts: what is no word of the attribute stays; versions of a row mask alike."""
    chance = random.Random(0)
    fill = ["send", "the", "money", "to", "an", "account", "of", ",", "now", "please"]
    for number in range(200):
        gender = chance.choice(("female", "male"))
        words = chance.sample(fill, 6)
        people = chance.sample(LISTS.names[chance.choice(list(LISTS.names))][gender], 2)
        pronoun = {"female": "she", "male": "he"}[gender]
        for word in (*people, pronoun, people[0]):
            words.insert(chance.randrange(len(words) + 1), word)
        row = make_row(" ".join(words))
        swapper = Swapper(LISTS, "gender", number)
        swapped = swapper.swap(row)
        assert isinstance(swapped, SwappedRow) and len(swapped.versions) == 4
        assert [version.group for version in swapped.versions] == ["female"] * 2 + ["male"] * 2
        for version in swapped.versions:
            text = version.row.messages[0].content
            before, after = " ".join(words).split(" "), text.split(" ")
            changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
            known = {people[0], people[1], pronoun, "a", "an"}
            assert {a for a, _ in changed} <= known
            renamed = {(a, b) for a, b in changed if a in people}
            assert len(renamed) == len({b for _, b in renamed}) == 2, "two people stay two"
            assert not {b for _, b in renamed} & set(people)
            assert (" she " in f" {text} ") == (version.group == "female")
        masked = {swapper.finder.mask(v.row.messages[0].content).replace(" an ", " a ")
                  for v in swapped.versions}  # fmt: skip
        assert len(masked) == 1


def test_words_are_dealt_out_evenly() -> None:
    swapper = Swapper(LISTS, "gender", 1)
    units: list[str] = []
    for _ in range(32):
        swapped = swapper.swap(make_row("Ask Emily"))
        assert isinstance(swapped, SwappedRow)
        units += [version.unit for version in swapped.versions if version.group == "male"]
    counts = [units.count(name) for name in LISTS.names["english"]["male"]]
    assert min(counts) == max(counts) == 4


def test_a_template_gives_a_name_to_a_row_without_one() -> None:
    row = put_name(make_row("What is my balance?"), "{name} asks: {prompt}", LISTS)
    swapped = Swapper(LISTS, "gender", 0).swap(row)
    for unit, prompt, _ in texts(swapped, "male"):
        assert prompt == f"{unit} asks: What is my balance?"


def test_the_system_message_stays() -> None:
    turns = (Message("system", "You are Emily."), Message("user", "Hi, James here"),
             Message("assistant", "Hello James"))  # fmt: skip
    swapped = Swapper(LISTS, "gender", 0).swap(Row(turns, None, "r"))
    assert isinstance(swapped, SwappedRow)
    for version in swapped.versions:
        assert version.row.messages[0].content == "You are Emily."
        assert version.row.answer == f"Hello {version.unit}"


def test_lists_of_the_user_add_an_attribute(tmp_path: Path) -> None:
    path = tmp_path / "lists.yaml"
    path.write_text("terms:\n  faith: {one: [Buddhist, Shinto], two: [Jain, Sikh, Bahai]}\n")
    lists = check_fairness(FairnessSection(attributes=("faith",), lists=str(path)))
    found = Swapper(lists, "faith", 0).swap(make_row("a Sikh man"))
    assert {prompt for _, prompt, _ in texts(found, "one")} == {"a Buddhist man", "a Shinto man"}
    assert Finder(lists, "faith").mask("a Sikh man") == "a <term> man"
    with pytest.raises(InputError, match="no two groups of 'gender'"):
        check_fairness(FairnessSection(attributes=("gender",), lists=str(path)))


@pytest.mark.parametrize("text", ["names: [a, b]", "nouns: {}", "{", "pairs: {gender: [3]}"])
def test_broken_lists_are_refused_by_their_place(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lists.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_lists(str(path))
    assert str(path) in str(caught.value)


def test_a_template_needs_its_parts() -> None:
    with pytest.raises(InputError, match=r"\{name\} and \{prompt\}"):
        check_fairness(FairnessSection(template="{prompt}"))


def test_own_lists_have_no_word_twice() -> None:
    names = [n.lower() for one in LISTS.names.values() for some in one.values() for n in some]
    assert len(names) == len(set(names))
    assert isinstance(LISTS, Lists) and LISTS.attributes == ("gender", "origin", "age")
