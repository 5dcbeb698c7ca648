"""Record schemas of the last stretch of pretraining: what happened in a house and its day.

They tell, they never command, and their kinds and key sets are not those of the device rows.
"""

from __future__ import annotations

#: kind: (keys in order, sentences), as in `records`.
HOUSEHOLD: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "light.seen": (("room", "colour"), (
        "a {colour} light burns in the {room}", "the {room} lamp glows {colour}",
        "{who} saw {colour} light in the {room}", "the lights of the {room} were {colour}",
        "from the {room} came a {colour} glow")),
    "light.left": (("who", "room", "state"), (
        "{who} left the {room} lamp {state}", "the light in the {room} is {state}, says {who}",
        "with {who} the {room} lights are always {state}",
        "{who} came home and the lamp in the {room} was {state}")),
    "heat.felt": (("room", "degrees"), (
        "the {room} was {degrees} degrees warm", "it was {degrees} degrees in the {room}",
        "{who} measured a temperature of {degrees} in the {room}",
        "the thermostat of the {room} showed {degrees} degrees", "{degrees} degrees, warm {room}")),
    "fan.heard": (("room", "state"), (
        "the {room} fan was {state} all night", "{who} heard the fan in the {room}, it was {state}",
        "at {state} speed the fan of the {room} is loud", "the fan blows {state} in the {room}")),
    "window.look": (("who", "room", "state"), (
        "{who} found the blinds of the {room} {state}", "the {room} shutters are {state}, {who}",
        "{state} blinds in the {room}, by {who}", "in the {room} {who} left the shutters {state}")),
    "key.story": (("who", "entry", "state"), (
        "{who} keeps the {entry} {state}", "the {entry} was {state} when {who} came",
        "make a note, {who} found the {entry} {state}",
        "the lock of the {entry} is {state}, {who}")),
    "robot.tale": (("who", "room"), (
        "the robot of {who} cleans the {room} floor", "{who} has to vacuum the {room}",
        "the vacuum of {who} is in the {room}", "the dirty floor of the {room} is for {who}")),
    "camera.photo": (("entry", "day"), (
        "the camera at the {entry} saw a cat {day}", "{day} the {entry} camera showed rain",
        "a view of the {entry} from {day}", "{who} looked at the {entry} camera {day}",
        "{day} we watched the screen of the camera at the {entry}")),
    "party.mode": (("theme", "who"), (
        "the scene {theme} was made by {who}", "{who} loves the {theme} mode",
        "for {who} the house is in {theme} mode", "{theme} is the scene of {who}")),
    "oven.story": (("who", "degrees", "minutes"), (
        "the oven of {who} was at {degrees} degrees for {minutes} minutes",
        "{who} baked for {minutes} minutes at {degrees} degrees",
        "for {minutes} minutes {who} kept the oven at {degrees} degrees",
        "{minutes} minutes, {degrees} degrees, says {who} of the oven")),
    "garden.rain": (("zone", "minutes"), (
        "the {zone} got water for {minutes} minutes", "{minutes} minutes of rain on the {zone}",
        "the sprinkler at the {zone} ran {minutes} minutes",
        "{who} gave water to the {zone} for {minutes} minutes")),
    "clock.rang": (("who", "day", "hour"), (
        "the alarm of {who} rang {day} at {hour}", "{day} {who} got up at {hour}",
        "{who} woke up at {hour} {day}", "at {hour} {day} the alarm woke {who}")),
    "run.time": (("who", "minutes"), (
        "{who} ran for {minutes} minutes", "the timer of {who} showed {minutes} minutes",
        "a countdown of {minutes} minutes for {who}", "{who} counted down {minutes} minutes")),
    "plan.made": (("task", "who", "hour"), (
        "{who} must not forget to {task} at {hour}", "at {hour} {who} wants to {task}",
        "the reminder for {who} says {task} at {hour}", "{hour}, {who}, {task}",
        "{who} was told at {hour} to {task}")),
    "music.heard": (("song", "room"), (
        "{who} heard {song} in the {room}", "in the {room} they played {song}",
        "the {room} speaker plays {song}", "the playlist {song} is on in the {room}")),
    "sound.level": (("device", "number"), (
        "the {device} is as loud as {number}", "volume {number} is too much for the {device}",
        "{who} put {number} on the {device}", "the volume of the {device} went up to {number}")),
    "tv.show": (("who", "number"), (
        "{who} watches channel {number}", "on channel {number} is the show of {who}",
        "the tv of {who} has {number} channels", "channel {number} is what {who} wants to watch")),
    "store.list": (("food", "count", "who"), (
        "{who} has to buy {count} packs of {food}", "we need {food}, {count} bags, says {who}",
        "{who} wrote {count} bottles of {food} on a list",
        "the list of {who} has {food}, {count} of it", "{who} is out of {food} and gets {count}")),
    "date.kept": (("event", "who", "day"), (
        "{who} has the {event} {day}", "{day} is the {event} of {who}",
        "the calendar of {who} has {event} {day}", "{who} put the {event} on {day}")),
    "talk.had": (("who", "friend", "note"), (
        "{who} told {friend} that {note}", "{who} wrote to {friend} saying {note}",
        "{friend} knows from {who} that {note}", "the message of {who} to {friend} says {note}")),
    "call.log": (("who", "day"), (
        "{who} called on the phone {day}", "{day} we gave {who} a ring",
        "a talk on the phone with {who} {day}", "{who} had to phone home {day}")),
    "drive.log": (("who", "place"), (
        "{who} drove to the {place}", "the way to the {place} was shown to {who}",
        "{who} asks for directions to the {place}", "the route of {who} goes to the {place}",
        "how does {who} get to the {place}")),
    "car.story": (("who", "number", "hour"), (
        "the car of {who} had {number} percent at {hour}",
        "{who} charged to {number} percent by {hour}",
        "by {hour} the battery of {who} was at {number} percent",
        "until {hour} {who} filled the battery to {number}")),
    "rain.asked": (("city", "day"), (
        "{who} asked for the weather in {city} {day}", "will it rain {day} in {city}",
        "{day} the forecast for {city} is good", "how is it in {city} {day}")),
}  # fmt: skip
