"""Slot values of the device-command rows: what is said, what is answered, what only tests hold.

Every open list is cut in two: its first four fifths serve all splits, the rest only the test rows.
Numbers and times are cut by a rule on the value.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from tools.embedded import lexicon as lx
from tools.embedded import spoken

#: What a draw returns: the words for each template field, and the values for the answer keys.
Drawn = tuple[dict[str, str], dict[str, object]]

CONTACTS = [*lx.RELATIVES[:3], *lx.NAMES]
_SPEEDS = ["low", "medium", "high"]
_SENSORS = ["temperature", "humidity"]
_PACKS = ["packs", "bags", "boxes", "jars"]

#: How likely a test row takes a held-out value, for each open slot.
HELD_OUT_SHARE = 0.65


def split_values(values: list[str]) -> tuple[list[str], list[str]]:
    """(values of every split, values of the test rows only)."""
    cut = round(len(values) * 0.8)
    return values[:cut], values[cut:]


OPEN_SLOTS: Mapping[str, tuple[list[str], list[str]]] = {
    "room": split_values(lx.ROOMS),
    "color": split_values(lx.COLOURS),
    "door": split_values(lx.DOORS),
    "chore": split_values(lx.CHORES),
    "note": split_values(lx.NOTES),
    "playlist": split_values(lx.PLAYLISTS),
    "item": split_values(lx.FOODS),
    "title": split_values(lx.EVENTS),
    "contact": split_values(CONTACTS),
    # A library is a room of the house too: it is kept for the test as such.
    "place": split_values([place for place in lx.PLACES if place not in lx.ROOMS]),
    "city": split_values(lx.CITIES),
    "camera": split_values(lx.CAMERAS),
    "scene": split_values(lx.SCENES),
    "zone": split_values(lx.ZONES),
}


def is_held_number(number: int) -> bool:
    """Whether a number is kept for the test rows: those that end in 7."""
    return number % 10 == 7


def is_held_time(hour: int, minute: int) -> bool:
    """Whether a time is kept for the test rows: one in seven of the five-minute steps."""
    return (hour * 12 + minute // 5) % 7 == 3


class Slots:
    """Draws slot values for one split with one random stream."""

    def __init__(self, rng: random.Random, test: bool) -> None:
        self.rng, self.test = rng, test

    def open(self, name: str) -> str:
        """A value of an open slot; a held-out one only in the test split."""
        shared, held = OPEN_SLOTS[name]
        return self.rng.choice(held if self._hold() else shared)

    def number(self, low: int, high: int, step: int = 1) -> int:
        """A number of low..high (inclusive) in steps."""
        numbers = range(low, high + 1, step)
        held = [n for n in numbers if is_held_number(n)]
        shared = [n for n in numbers if not is_held_number(n)]
        return self.rng.choice(held if held and self._hold() else shared)

    def time(self) -> tuple[int, int]:
        """An hour and minute."""
        hold = self._hold()
        while True:
            hour, minute = spoken.draw_time(self.rng)
            if is_held_time(hour, minute) == hold:
                return hour, minute

    def _hold(self) -> bool:
        return self.test and self.rng.random() < HELD_OUT_SHARE


def _same(field: str, pool: str | None = None) -> Callable[[Slots], Drawn]:
    def draw(slots: Slots) -> Drawn:
        value = slots.open(pool or field)
        return {field: value}, {field: value}

    return draw


def _numeric(field: str, key: str, low: int, high: int, step: int = 1) -> Callable[[Slots], Drawn]:
    def draw(slots: Slots) -> Drawn:
        number = slots.number(low, high, step)
        return {field: spoken.say_number(slots.rng, number)}, {key: number}

    return draw


def _chosen(field: str, values: list[str]) -> Callable[[Slots], Drawn]:
    def draw(slots: Slots) -> Drawn:
        value = slots.rng.choice(values)
        return {field: value}, {field: value}

    return draw


def _draw_time(slots: Slots) -> Drawn:
    hour, minute = slots.time()
    said = spoken.say_time(slots.rng, hour, minute)
    return {"time": said}, {"time": spoken.format_time(hour, minute)}


def _draw_day(slots: Slots) -> Drawn:
    day = slots.rng.choice(lx.DAYS)
    return {"day": f"on {day}" if day in lx.WEEKDAYS else day}, {"day": day}


def _draw_duration(slots: Slots) -> Drawn:
    unit = slots.rng.choice(("seconds", "minutes", "minutes"))
    if unit == "minutes" and slots.rng.random() < 0.3:
        amount = slots.rng.choice((15, 30, 60, 90, 120))
    else:
        amount = slots.number(2, 90)
    said = spoken.say_duration(slots.rng, amount, unit)
    return {"duration": said}, {"amount": amount, "unit": unit}


def _draw_place(slots: Slots) -> Drawn:
    if slots.rng.random() < 0.3:
        city = slots.open("city")
        return {"place": city}, {"place": city}
    place = slots.open("place")
    return {"place": f"the {place}"}, {"place": place}


def _draw_city(slots: Slots) -> Drawn:
    city = slots.open("city")
    return {"city": city}, {"place": city}


def _draw_lock(slots: Slots) -> Drawn:
    verb = slots.rng.choice(("lock", "unlock"))
    return {"lock": verb, "locked": f"{verb}ed"}, {"state": f"{verb}ed"}


def _draw_move(slots: Slots) -> Drawn:
    state = slots.rng.choice(("open", "close"))
    words = {"open": ("open", "raise"), "close": ("close", "lower")}
    return {"move": slots.rng.choice(words[state])}, {"state": state}


def _draw_item(slots: Slots) -> Drawn:
    said, values = _numeric("count", "count", 2, 20)(slots)
    item = slots.open("item")
    return said | {"item": item, "pack": slots.rng.choice(_PACKS)}, {"item": item} | values


_ROOM, _TITLE, _CONTACT = _same("room"), _same("title"), _same("contact")
_LEVEL, _MINUTES = _numeric("level", "level", 1, 99), _numeric("minutes", "minutes", 2, 90)

#: The draws that together fill the templates and the answer of each intent.
DRAWS: dict[str, tuple[Callable[[Slots], Drawn], ...]] = {
    "light.level": (_ROOM, _LEVEL),
    "light.switch": (_ROOM, _chosen("state", ["on", "off"])),
    "light.color": (_ROOM, _same("color")),
    "heat.set": (_ROOM, _numeric("degrees", "degrees", 10, 30)),
    "fan.speed": (_ROOM, _chosen("speed", _SPEEDS)),
    "blinds.move": (_ROOM, _draw_move),
    "lock.set": (_same("door"), _draw_lock),
    "alarm.set": (_draw_day, _draw_time),
    "timer.start": (_draw_duration,),
    "reminder.add": (_same("text", "chore"), _draw_time),
    "music.play": (_same("playlist"), _ROOM),
    "volume.set": (_chosen("device", lx.SPEAKERS), _LEVEL),
    "tv.channel": (_numeric("channel", "channel", 1, 199),),
    "vacuum.run": (_ROOM,),
    "list.add": (_draw_item,),
    "calendar.add": (_TITLE, _draw_day, _draw_time),
    "message.send": (_CONTACT, _same("text", "note")),
    "phone.call": (_CONTACT,),
    "route.start": (_draw_place,),
    "weather.get": (_draw_city, _draw_day),
    "camera.show": (_same("camera"),),
    "scene.run": (_same("scene"),),
    "oven.heat": (_numeric("oven", "degrees", 100, 250, 5), _MINUTES),
    "sprinkler.run": (_same("zone"), _MINUTES),
    "sensor.read": (_ROOM, _chosen("sensor", _SENSORS)),
    "car.charge": (_LEVEL, _draw_time),
}
