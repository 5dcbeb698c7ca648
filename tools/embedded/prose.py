"""Plain prose and JSON documents for pretraining: small household stories, diaries, records."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from tools.embedded import lexicon as lx
from tools.embedded import spoken

_OPENINGS = (
    "{day} was a {weather} day in {city}.",
    "It was {weather} in {city}, and {A} was {mood}.",
    "{A} and {B} live in a {size} house near the {place}.",
    "{A} is a {job}. {A} works near the {place} in {city}.",
    "Once there was a {mood} {animal} named {pet}. It lived with {A} in {city}.",
    "Dear diary, today is {day}. I am {mood}.",
    "In {month} {A} moved to {city} with a {animal} called {pet}.",
    "{A} woke up at {time}. The {room} was still dark.",
    "The {room} of the old house had a {material} {object} and {count} {object2}s.",
)
_MIDDLES = (
    "{A} went to the {room} and {verb} a {size} {object}.",
    'Then {B} came in and said, "I {verb} the {object} in the {room}."',
    '"Please {request}," said {A}. "I will {request2}," said {B}.',
    "{B} asked {C} to {request}.",
    "There was some {food} on the table, so they had {food} and {food2}.",
    "The {animal} slept under the {material} {object2}.",
    "{A} turned on the {device} because it was dark.",
    "{A} put the {object} next to the {object2}, but the {object2} was too {size}.",
    '"Where is my {object}?" asked {A}. "It is in the {room}," said {B}.',
    "At {time} they walked to the {place} to buy {food}.",
    "{B} was {mood}, because the {object} was {colour} and not {colour2}.",
    "They counted {count} {object}s and {count2} {animal}s.",
    "The {device} in the {room} did not work, so {B} called the {job}.",
    "On {day2} they wanted to drive to {city2}, {count} hours away.",
    "{A} played {playlist} on the {speaker} while {B} made {food}.",
    "Outside it was {weather}. Inside the {room} it was {weather2}.",
    "{A} wrote a {size} letter to {C} about the {event}.",
    "After the {event} {A} had to {chore}, and then {B} had to {chore2}.",
    '{C} sent a message: "{note}."',
    "The new {device} was made by {brand}. It cost {count} dollars.",
    "First {A} opened the {door}, then {B} closed the {door2}.",
    "The temperature was {count} degrees, and the {device} was at {count2} percent.",
    "{pet} the {animal} ran from the {room} to the {camera}.",
    "It took {duration} to walk from the {place} to the {place2}.",
)
_ENDINGS = (
    "In the end {A} was {mood} and went to bed at {time}.",
    "{A} gave the {object} to {B}, and everyone was {mood}.",
    "That was the best {day} of the year.",
    "So {B} kept the {colour} {object} in the {room}.",
    "They drove home at {time} and slept well.",
    "From then on {pet} never went near the {place} again.",
    "And {A} never lost the {object} again.",
)


def draw_name(rng: random.Random) -> str:
    """A lower-case person name: listed, or in a third of the cases invented."""
    return rng.choice(lx.NAMES) if rng.random() < 0.67 else lx.invent_word(rng)


def draw_place(rng: random.Random) -> str:
    """A lower-case city name: listed, or in a third of the cases invented."""
    return rng.choice(lx.CITIES) if rng.random() < 0.67 else lx.invent_word(rng)


def draw_slots(rng: random.Random) -> dict[str, str]:
    """One consistent set of story slots, names capitalised."""
    pick = rng.choice
    slots = {key: draw_name(rng).capitalize() for key in ("A", "B", "C", "pet", "brand")}
    slots |= {key: draw_place(rng).capitalize() for key in ("city", "city2")}
    for key, words in (
        ("room", lx.ROOMS), ("place", lx.PLACES), ("place2", lx.PLACES), ("object", lx.OBJECTS),
        ("object2", lx.OBJECTS), ("animal", lx.ANIMALS), ("material", lx.MATERIALS),
        ("size", lx.SIZES), ("mood", lx.MOODS), ("job", lx.JOBS), ("weather", lx.WEATHERS),
        ("weather2", lx.WEATHERS), ("food", lx.FOODS), ("food2", lx.FOODS),
        ("device", lx.DEVICES), ("colour", lx.COLOURS), ("colour2", lx.COLOURS),
        ("playlist", lx.PLAYLISTS), ("speaker", lx.SPEAKERS), ("event", lx.EVENTS),
        ("chore", lx.CHORES), ("chore2", lx.CHORES), ("note", lx.NOTES), ("door", lx.DOORS),
        ("door2", lx.DOORS), ("camera", lx.CAMERAS + lx.ZONES + lx.SCENES),
        ("verb", lx.VERBS_PAST), ("request", lx.REQUESTS), ("request2", lx.REQUESTS),
    ):  # fmt: skip
        slots[key] = pick(words)
    slots |= {"day": pick(lx.WEEKDAYS).capitalize(), "day2": pick(lx.WEEKDAYS).capitalize()}
    slots["month"] = pick(lx.MONTHS).capitalize()
    slots["count"] = spoken.say_number(rng, rng.randint(2, 99))
    slots["count2"] = spoken.say_number(rng, rng.randint(2, 99))
    slots["time"] = spoken.say_time(rng, *spoken.draw_time(rng))
    slots["duration"] = spoken.say_duration(rng, rng.randint(2, 59), "minutes")
    return slots


def tell_story(rng: random.Random) -> str:
    """A story of three to seven sentences about the same people."""
    slots = draw_slots(rng)
    lines = [rng.choice(_OPENINGS)]
    lines += rng.sample(_MIDDLES, rng.randint(1, 5))
    lines.append(rng.choice(_ENDINGS))
    sentences = []
    for line in lines:
        sentences.append(line.format(**slots))
        fresh = draw_slots(rng)
        # People and pets stay; some of the other slots change from sentence to sentence.
        for key in slots.keys() - {"A", "B", "C", "pet", "city"}:
            if rng.random() < 0.5:
                slots[key] = fresh[key]
    return (" " if rng.random() < 0.8 else "\n").join(sentences)


_FIELDS: dict[str, Callable[[random.Random], object]] = {
    "name": draw_name, "city": draw_place, "owner": draw_name, "brand": lx.invent_word,
    "age": lambda rng: rng.randint(1, 99), "count": lambda rng: rng.randint(0, 999),
    "price": lambda rng: rng.randint(1, 250), "colour": lambda rng: rng.choice(lx.COLOURS),
    "pet": lambda rng: rng.choice(lx.ANIMALS), "food": lambda rng: rng.choice(lx.FOODS),
    "job": lambda rng: rng.choice(lx.JOBS), "date": lambda rng: rng.choice(lx.WEEKDAYS),
    "month": lambda rng: rng.choice(lx.MONTHS), "thing": lambda rng: rng.choice(lx.OBJECTS),
    "made_of": lambda rng: rng.choice(lx.MATERIALS), "size": lambda rng: rng.choice(lx.SIZES),
    "where": lambda rng: rng.choice(lx.ROOMS + lx.PLACES + lx.CAMERAS + lx.ZONES),
    "hour": lambda rng: spoken.format_time(*spoken.draw_time(rng)),
    "note": lambda rng: rng.choice(lx.NOTES), "task": lambda rng: rng.choice(lx.CHORES),
    "event": lambda rng: rng.choice(lx.EVENTS), "song": lambda rng: rng.choice(lx.PLAYLISTS),
    "theme": lambda rng: rng.choice(lx.SCENES), "entry": lambda rng: rng.choice(lx.DOORS),
    "device": lambda rng: rng.choice(lx.DEVICES + lx.SPEAKERS),
    "mood": lambda rng: rng.choice(lx.MOODS), "sky": lambda rng: rng.choice(lx.WEATHERS),
    "ok": lambda rng: rng.random() < 0.5,
}  # fmt: skip


def draw_record(rng: random.Random, size: int) -> dict[str, object]:
    """A flat JSON object of `size` random fields."""
    return {key: _FIELDS[key](rng) for key in rng.sample(sorted(_FIELDS), size)}


def write_json(rng: random.Random) -> str:
    """A JSON document: one record, a list of like records, or a nested one."""
    roll = rng.random()
    if roll < 0.5:
        keys = rng.sample(sorted(_FIELDS), rng.randint(2, 4))
        rows = [{key: _FIELDS[key](rng) for key in keys} for _ in range(rng.randint(2, 5))]
        return "\n".join(json.dumps(row) for row in rows)
    if roll < 0.8:
        return json.dumps(draw_record(rng, rng.randint(2, 6)))
    outer = draw_record(rng, 2)
    outer["items"] = [draw_record(rng, 2) for _ in range(rng.randint(1, 3))]
    return json.dumps(outer, indent=2 if rng.random() < 0.3 else None)
