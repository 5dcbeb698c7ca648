"""The device-command rows: remade byte for byte, split cleanly, every answer well formed."""

import json
import re

import pytest

from edgetune.embedded import locate
from tools.embedded import grammar, slots, spoken
from tools.embedded.grammar import INTENTS

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def rows():
    return {
        split: [
            json.loads(line)
            for line in locate(f"devices/{split}.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        for split in SPLITS
    }


def test_files_are_remade_from_the_seed():
    for split, made in grammar.generate_splits().items():
        assert grammar.encode_rows(made) == locate(f"devices/{split}.jsonl").read_bytes()


def test_files_are_small_and_complete(rows):
    assert {split: len(found) for split, found in rows.items()} == grammar.SIZES
    assert sum(locate(f"devices/{split}.jsonl").stat().st_size for split in SPLITS) < 2_000_000


def test_no_prompt_is_in_two_rows(rows):
    prompts = [row["prompt"].lower().rstrip(".!") for split in SPLITS for row in rows[split]]
    assert len(prompts) == len(set(prompts))


def test_every_completion_has_the_keys_of_its_call(rows):
    for split in SPLITS:
        for row in rows[split]:
            answer = json.loads(row["completion"])
            assert tuple(answer) == ("call", *INTENTS[answer["call"]].keys)
            assert json.dumps(answer) == row["completion"]


def test_copied_values_stand_in_the_prompt(rows):
    copied = {"room", "color", "door", "text", "playlist", "item", "title", "contact", "place"}
    for split in SPLITS:
        for row in rows[split]:
            for key, value in json.loads(row["completion"]).items():
                if key in copied | {"camera", "scene", "zone"}:
                    assert re.search(rf"\b{re.escape(value)}\b", row["prompt"]), row


def test_held_out_values_are_in_test_rows_only(rows):
    known = [json.loads(r["completion"]) for s in ("train", "validation") for r in rows[s]]
    tested = [json.loads(row["completion"]) for row in rows["test"]]
    used = {value for answer in known for key, value in answer.items() if isinstance(value, str)}
    seen = {value for answer in tested for value in answer.values() if isinstance(value, str)}
    for shared, held in slots.OPEN_SLOTS.values():
        assert set(shared) & used
        assert set(held) & seen
        assert not set(held) & used
    for answer in known:
        for value in answer.values():
            if isinstance(value, int):
                assert not slots.is_held_number(value)
        if "time" in answer:
            assert not slots.is_held_time(*map(int, answer["time"].split(":")))


def test_half_of_the_test_rows_have_templates_of_their_own():
    train = {t for intent in INTENTS.values() for t in intent.train}
    held = {t for intent in INTENTS.values() for t in intent.test}
    assert not train & held
    assert all(len(i.train) >= 6 and len(i.test) >= 2 for i in INTENTS.values())
    rng = grammar.random.Random(1)
    drawn = [grammar.draw_row(rng, name, "test")[1] for name in INTENTS for _ in range(40)]
    assert 0.4 < sum(template in held for template in drawn) / len(drawn) < 0.6
    drawn = [grammar.draw_row(rng, name, "train")[1] for name in INTENTS for _ in range(40)]
    assert not held & set(drawn)


def test_most_test_answers_are_new(rows):
    known = {row["completion"] for split in ("train", "validation") for row in rows[split]}
    assert sum(row["completion"] in known for row in rows["test"]) <= 150


def test_a_spoken_time_has_one_meaning():
    rng, meaning = grammar.random.Random(3), {}
    for _ in range(20_000):
        time = spoken.draw_time(rng)
        said = spoken.say_time(rng, *time)
        assert meaning.setdefault(said, time) == time


def test_numbers_are_spelt():
    assert spoken.spell_number(0) == "zero"
    assert spoken.spell_number(42) == "forty two"
    assert spoken.spell_number(115) == "one hundred fifteen"
    assert spoken.spell_number(900) == "nine hundred"


def test_locate_names_what_there_is():
    assert locate("base").is_dir()
    for wrong in ("devices/nothing.jsonl", "../errors.py", "__init__.py"):
        with pytest.raises(FileNotFoundError, match=r"devices/train\.jsonl"):
            locate(wrong)
