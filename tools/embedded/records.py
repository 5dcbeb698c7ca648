"""Pretraining exercises that turn a sentence into a JSON record.

The records tell of shops, pets, trips, recipes, clubs and the like. A record names its kind under
"about" in some documents, so the model learns to pick a schema by what a sentence says; neither
the kinds nor the key sets are those of the device rows.
"""

from __future__ import annotations

import json
import random

from tools.embedded import household, noise, prose, spoken
from tools.embedded import lexicon as lx

# kind: (keys in order, sentences). A key's letters name the slot drawn for it in `_draw_slot`.
_SCHEMAS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "trip.new": (("who", "city", "month"), (
        "{who} travels to {city} in {month}", "in {month} {who} goes to {city}",
        "{city} is where {who} will be in {month}", "a trip to {city} for {who} in {month}")),
    "pet.card": (("pet", "name", "age"), (
        "the {pet} {name} is {age} years old", "{name} is a {pet} of {age} years",
        "a {pet} called {name}, {age} years", "we have a {pet}, {name}, aged {age}")),
    "shop.order": (("count", "food", "who"), (
        "{who} orders {count} {food}", "{count} times {food} for {who}",
        "please send {count} {food} to {who}", "{who} wants {food}, {count} of them")),
    "shop.price": (("thing", "price"), (
        "the {thing} costs {price} dollars", "{price} dollars for the {thing}",
        "you pay {price} for a {thing}", "a {thing} is {price} dollars here")),
    "club.member": (("name", "city", "age"), (
        "{name} from {city} is {age}", "{name}, {age}, lives in {city}",
        "in {city} lives {name}, who is {age} years old", "the {age} year old {name} of {city}")),
    "box.move": (("thing", "from", "to"), (
        "take the {thing} from the {from} to the {to}", "the {thing} goes from {from} to {to}",
        "move the {thing} into the {to}, it was in the {from}")),
    "room.paint": (("room", "colour"), (
        "{who} painted the {room} {colour}", "the {room} walls are {colour} now",
        "a {colour} wall in the {room}", "paint in {colour} for the {room}")),
    "band.show": (("band", "city", "day"), (
        "the band {band} plays in {city} on {day}", "{day} in {city}: the band {band}",
        "see {band} live on {day} in {city}")),
    "song.like": (("who", "song"), (
        "{who} likes {song}", "the song {song} is loved by {who}",
        "{who} sings {song} all day", "what {who} hears most is {song}")),
    "letter.sent": (("to", "note"), (
        "the letter to {to} says {note}", "{to} reads a card: {note}",
        "a card for {to} that reads {note}", "we wrote to {to} that {note}")),
    "work.done": (("who", "task", "hour"), (
        "{who} had to {task} at {hour}", "at {hour} {who} began to {task}",
        "the job of {who} was to {task} at {hour}")),
    "school.day": (("event", "day", "hour"), (
        "the {event} was on {day} at {hour}", "on {day} we had the {event} at {hour}",
        "at {hour} on {day} came the {event}")),
    "cake.bake": (("food", "degrees", "minutes"), (
        "bake the {food} cake at {degrees} degrees for {minutes} minutes",
        "{food} cake: {minutes} minutes at {degrees} degrees",
        "the {food} cake needs {degrees} degrees and {minutes} minutes")),
    "walk.log": (("who", "place", "minutes"), (
        "{who} walked to the {place} in {minutes} minutes",
        "it took {who} {minutes} minutes to reach the {place}",
        "the {place} is {minutes} minutes from {who}")),
    "sky.report": (("city", "day", "sky"), (
        "it was {sky} in {city} on {day}", "{city} on {day}: {sky}",
        "a {sky} {day} in {city}")),
    "tool.state": (("device", "room", "state"), (
        "the {device} in the {room} is {state}", "in the {room} the {device} was {state}",
        "{state} is what the {room} {device} is")),
    "door.photo": (("entry", "who"), (
        "{who} took a photo of the {entry}", "a picture of the {entry} by {who}",
        "{who} drew the {entry}")),
    "game.play": (("theme", "who", "count"), (
        "{who} scored {count} in the game {theme}", "{count} points for {who} in {theme}",
        "in {theme} {who} got {count} points")),
    "farm.count": (("count", "pet", "zone"), (
        "{count} {pet}s stand in the {zone}", "the {zone} has {count} {pet}s",
        "we saw {count} {pet}s at the {zone}")),
    "radio.tune": (("station", "number"), (
        "the station {station} is number {number}", "{number} is the place of {station}",
        "you hear {station} on {number}")),
}  # fmt: skip

_LATE_SCHEMAS = _SCHEMAS | household.HOUSEHOLD
_COPIED = {
    "pet": lx.ANIMALS, "month": lx.MONTHS, "food": lx.FOODS, "thing": lx.OBJECTS,
    "from": lx.ROOMS, "to": lx.ROOMS, "room": lx.ROOMS, "colour": lx.COLOURS, "day": lx.DAYS,
    "song": lx.PLAYLISTS, "note": lx.NOTES, "task": lx.CHORES, "event": lx.EVENTS,
    "place": lx.PLACES, "sky": lx.WEATHERS, "device": lx.DEVICES + lx.SPEAKERS,
    "entry": lx.DOORS + lx.CAMERAS, "theme": lx.SCENES, "zone": lx.ZONES,
    "state": ["open", "closed", "on", "off", "high", "low", "medium", "locked", "unlocked"],
}  # fmt: skip
_NUMBERS = {
    "age": (1, 99), "count": (2, 120), "price": (1, 250), "minutes": (2, 180),
    "number": (1, 120), "degrees": (10, 260),
}  # fmt: skip


def _draw_slot(rng: random.Random, key: str) -> tuple[str, object]:
    """What the sentence says, and what the record holds."""
    if key in _NUMBERS:
        number = rng.randint(*_NUMBERS[key])
        return spoken.say_number(rng, number), number
    if key == "hour":
        time = spoken.draw_time(rng)
        return spoken.say_time(rng, *time), spoken.format_time(*time)
    if key == "city":
        value = prose.draw_place(rng)
    elif key in _COPIED and rng.random() < 0.85:
        value = rng.choice(_COPIED[key])
    elif key in ("who", "name", "friend"):
        value = rng.choice(lx.RELATIVES) if rng.random() < 0.1 else prose.draw_name(rng)
    else:
        value = " ".join(lx.invent_word(rng) for _ in range(rng.choice((1, 1, 2))))
    return value, value


def _draw(rng: random.Random, kind: str, late: bool = False) -> tuple[str, dict[str, object]]:
    keys, sentences = (_LATE_SCHEMAS if late else _SCHEMAS)[kind]
    sentence = rng.choice(sentences)
    if late:
        sentence = noise.dress(rng, sentence)
    said, record = {"who": prose.draw_name(rng)}, {}
    for key in keys:
        said[key], record[key] = _draw_slot(rng, key)
    return sentence.format(**said), record


def draw_record_task(rng: random.Random, late: bool = False) -> tuple[str, str]:
    """A sentence and its record; asked with the keys, with "json:", or bare with its kind.

    Late in the pretraining there are more kinds, and sentences with typos and polite words.
    """
    kind = rng.choice(sorted(_LATE_SCHEMAS if late else _SCHEMAS))
    sentence, record = _draw(rng, kind, late)
    roll = rng.random()
    if roll < 0.45:
        return sentence, json.dumps({"about": kind} | record)
    if roll < 0.6:
        return f"json: {sentence}", json.dumps(record)
    if roll < 0.7:
        key = rng.choice(sorted(record))
        return f"{sentence}. {key}?", str(record[key])
    keys = rng.sample(sorted(record), rng.randint(1, len(record)))
    ask = rng.choice(("give {k} as json: {s}", "{s}. {k} in json", "json with {k}: {s}"))
    return ask.format(k=", ".join(keys), s=sentence), json.dumps({k: record[k] for k in keys})


def draw_schema_examples(rng: random.Random, count: int) -> list[tuple[str, str]]:
    """`count` sentences of one kind, their records under keys made up for this document."""
    kind = rng.choice(sorted(_SCHEMAS))
    keys = {key: lx.invent_word(rng) for key in _SCHEMAS[kind][0]}
    label = {lx.invent_word(rng): lx.invent_word(rng)} if rng.random() < 0.5 else {}
    pairs = []
    for _ in range(count):
        sentence, record = _draw(rng, kind)
        pairs.append((sentence, json.dumps(label | {keys[k]: v for k, v in record.items()})))
    return pairs
