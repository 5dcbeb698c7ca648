"""The exercises of the pretraining dialogues: each draws (user text, the one right answer)."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from tools.embedded import lexicon as lx
from tools.embedded import noise, prose, records, spoken

Exercise = Callable[[random.Random], tuple[str, str]]

_ANY_PHRASE = (
    lx.PLAYLISTS + lx.SCENES + lx.EVENTS + lx.CHORES + lx.NOTES + lx.FOODS + lx.PLACES + lx.ZONES
    + lx.CAMERAS + lx.DOORS + lx.ROOMS + lx.SPEAKERS + lx.COLOURS + lx.NAMES + lx.RELATIVES
    + lx.CITIES + lx.OBJECTS + lx.DAYS + lx.REQUESTS
)  # fmt: skip


def draw_phrase(rng: random.Random) -> str:
    """One to four lower-case words to copy: listed, invented, or both mixed."""
    roll = rng.random()
    if roll < 0.5:
        return rng.choice(_ANY_PHRASE)
    if roll < 0.7:
        return " ".join(lx.invent_word(rng) for _ in range(rng.randint(1, 2)))
    words = [rng.choice(_ANY_PHRASE).split()[0] for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.3:
        words.append(lx.invent_word(rng))
    return " ".join(words)


def _repeat(rng: random.Random) -> tuple[str, str]:
    phrase = draw_phrase(rng)
    ask = rng.choice(("repeat: {}", "say {}", "copy this: {}", "write {} again", "echo {}"))
    return ask.format(phrase), phrase


def _quote(rng: random.Random) -> tuple[str, str]:
    phrase = draw_phrase(rng)
    key = rng.choice(("text", "words", "copy", "said", "title"))
    ask = rng.choice(("put {} in json as {k}", "{k}: {}", "make json with {k} {}"))
    return ask.format(phrase, k=key), json.dumps({key: phrase})


def _number(rng: random.Random) -> tuple[str, str]:
    number = rng.choice((rng.randint(0, 120), rng.randint(0, 999)))
    if rng.random() < 0.7:
        ask = rng.choice(("write {} in digits", "{} as a number", "digits for {}", "{}"))
        return ask.format(spoken.spell_number(number)), str(number)
    return rng.choice(("spell {}", "write {} in words")).format(number), spoken.spell_number(number)


def _clock(rng: random.Random) -> tuple[str, str]:
    time = spoken.draw_time(rng, tuple(range(60)) if rng.random() < 0.2 else tuple(range(0, 60, 5)))
    said = spoken.say_time(rng, *time)
    ask = rng.choice(("what is {} on the clock?", "{} as clock time", "clock time for {}", "at {}"))
    return ask.format(said), spoken.format_time(*time)


def _clock_json(rng: random.Random) -> tuple[str, str]:
    time, name, what = spoken.draw_time(rng), prose.draw_name(rng), rng.choice(lx.EVENTS)
    said, norm = spoken.say_time(rng, *time), spoken.format_time(*time)
    ask, answer = rng.choice(
        (
            ("{n} leaves at {t}", {"who": name, "leaves": norm}),
            ("the {e} of {n} is at {t}", {"what": what, "who": name, "hour": norm}),
            ("the {e} starts at {t}", {"what": what, "hour": norm}),
            ("{n} comes home at {t} after the {e}", {"who": name, "home": norm, "after": what}),
        )
    )
    return ask.format(n=name, t=said, e=what), json.dumps(answer)


def _duration(rng: random.Random) -> tuple[str, str]:
    unit = rng.choice(("seconds", "minutes", "minutes"))
    amount = rng.choice((rng.randint(1, 90), rng.choice((15, 30, 60, 90, 120, 180))))
    said = spoken.say_duration(rng, amount, unit)
    form = rng.random()
    if form < 0.4:
        return f"how long is {said}?", f"{amount} {unit}"
    who = prose.draw_name(rng)
    return (
        rng.choice(("{n} slept for {d}", "{n} waited {d}", "the walk of {n} took {d}")).format(
            n=who, d=said
        ),
        json.dumps({"who": who, "long": amount, "in": unit}),
    )


def _question(rng: random.Random) -> tuple[str, str]:
    a, b = prose.draw_name(rng), prose.draw_name(rng)
    thing, room, day = rng.choice(lx.OBJECTS), rng.choice(lx.ROOMS), rng.choice(lx.DAYS)
    verb = rng.choice(lx.VERBS_PAST)
    facts = (
        (f"{a} {verb} the {thing} in the {room}.",
         (("who?", a), ("what?", thing), ("where?", room), (f"who {verb} it?", a))),
        (f"{a} gave the {thing} to {b} on {day}.",
         (("who gave it?", a), ("who has it?", b), ("what?", thing), ("when?", day))),
        (f"the {thing} of {a} is in the {room}, {b} said.",
         (("whose is it?", a), ("where is it?", room), ("who said it?", b), ("what?", thing))),
    )  # fmt: skip
    fact, asked = rng.choice(facts)
    question, answer = rng.choice(asked)
    return f"{fact} {question}", answer


def _fix_typos(rng: random.Random) -> tuple[str, str]:
    slots = prose.draw_slots(rng)
    right = rng.choice(
        (
            "the {device} in the {room} is {colour}", "{chore} on {day}", "the {object} is {size}",
            "please open the {door}", "turn the {device} off", "set it to {count}",
            "my {animal} is {mood} today", "remind me to {chore}", "add some {food} to the list",
            "play the {playlist} music", "what is the weather in {month}", "close the window",
            "send a message to the {job}", "drive to the {place}", "dim the lamp a little",
            "{request}", "{request} and {request2}", "{request} in the {room}",
        )
    ).format(**slots).lower()  # fmt: skip
    words = right.split()
    long = [i for i, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    for i in rng.sample(long, min(len(long), rng.randint(1, 2))):
        words[i] = noise.misspell(rng, words[i])
    return rng.choice(("fix: {}", "correct {}", "spell it right: {}")).format(
        " ".join(words)
    ), right


def _list_task(rng: random.Random) -> tuple[str, str]:
    pool = rng.choice((lx.OBJECTS, lx.ANIMALS, lx.NAMES, lx.CITIES, lx.COLOURS, lx.FOODS))
    items = rng.sample(pool, rng.randint(2, 5))
    said = ", ".join(items)
    ask, answer = rng.choice(
        (
            ("count: {}", str(len(items))), ("sort: {}", ", ".join(sorted(items))),
            ("first of {}", items[0]), ("last of {}", items[-1]),
            ("as json list: {}", json.dumps(items)),
            ("reverse: {}", ", ".join(reversed(items))),
        )
    )  # fmt: skip
    return ask.format(said), answer


def _yes_no(rng: random.Random) -> tuple[str, str]:
    items = rng.sample(lx.FOODS + lx.OBJECTS, 3)
    asked = rng.choice(items) if rng.random() < 0.5 else rng.choice(lx.FOODS + lx.OBJECTS)
    there = "yes" if asked in items else "no"
    return f"the bag holds {items[0]}, {items[1]} and {items[2]}. is {asked} in it?", there


def _sums(rng: random.Random) -> tuple[str, str]:
    a, b = rng.randint(0, 30), rng.randint(0, 20)
    if rng.random() < 0.5:
        return f"{spoken.say_number(rng, a)} plus {spoken.say_number(rng, b)}", str(a + b)
    return f"{spoken.say_number(rng, a + b)} minus {spoken.say_number(rng, b)}", str(a)


def _kinds(rng: random.Random) -> tuple[str, str]:
    pools = (
        (lx.COLOURS, "colour"), (lx.ANIMALS, "animal"), (lx.FOODS, "food"), (lx.CITIES, "city"),
        (lx.ROOMS, "room"), (lx.NAMES, "person"), (lx.DEVICES, "device"), (lx.JOBS, "job"),
        (lx.WEEKDAYS, "day"), (lx.MONTHS, "month"), (lx.CHORES, "chore"), (lx.EVENTS, "event"),
    )  # fmt: skip
    words, kind = rng.choice(pools)
    return f"what kind of word is {rng.choice(words)}?", kind


_EXERCISES: tuple[tuple[float, Exercise], ...] = (
    (10, _repeat), (8, _quote), (7, _number), (7, _clock), (5, _clock_json), (4, _duration),
    (9, _question), (7, _fix_typos), (4, _list_task), (2, _yes_no), (2, _sums), (3, _kinds),
    (32, records.draw_record_task),
)  # fmt: skip


def draw_exercise(rng: random.Random) -> tuple[str, str]:
    """One exercise: the user's text and the answer."""
    weights = [weight for weight, _ in _EXERCISES]
    return rng.choices([make for _, make in _EXERCISES], weights)[0](rng)


def draw_examples(rng: random.Random, count: int) -> list[tuple[str, str]]:
    """`count` pairs of one mapping; half of the time a record with keys never seen before."""
    if rng.random() < 0.5:
        return records.draw_schema_examples(rng, count)
    weights, makers = zip(*_EXERCISES[:-1], strict=True)
    maker = rng.choices(makers, weights)[0]
    return [maker(rng) for _ in range(count)]
