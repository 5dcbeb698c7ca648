"""Word lists shared by the pretraining text and the device-command grammar.

The pretraining text uses every list in full, so the model has met each word in both of its token
forms (with and without a leading space). The device grammar holds some entries back from its
training rows: those words are then known to the model as language, never as task answers.
"""

from __future__ import annotations

import random
from functools import lru_cache


def _words(text: str) -> list[str]:
    return text.split()


def _phrases(text: str) -> list[str]:
    return [part.strip() for part in text.replace("\n", " ").split(",") if part.strip()]


ROOMS = _phrases(
    "kitchen, bedroom, bathroom, hallway, garage, office, living room, dining room, nursery, den,"
    "basement, laundry, porch, studio, guest room, attic, pantry, library, playroom, cellar"
)
COLOURS = _words(
    "red green blue yellow orange purple pink white amber violet teal gold turquoise crimson"
    " lavender silver"
)
WEEKDAYS = _words("monday tuesday wednesday thursday friday saturday sunday")
DAYS = ["today", "tomorrow", *WEEKDAYS]
MONTHS = _words(
    "january february march april may june july august september october november december"
)
NAMES = _words(
    "anna ben clara david emma felix grace henry iris jack kate leo maria nina oscar paul rosa sam"
    " tina victor wendy zoe adam bella carl diana eric fiona george hannah ivan julia kevin laura"
    " mark nora peter ruth simon tom lena martin alice boris celia dana elias frida gustav helga"
    " ingrid jonas karin lukas marta nadia otto petra rafael selma theo ursula vera walter yara"
    " amir bianca cyrus dora"
)
RELATIVES = _words("mom dad grandma uncle aunt sister brother cousin neighbor boss")
CITIES = _words(
    "paris london berlin rome madrid vienna oslo dublin lisbon prague athens boston chicago denver"
    " seattle austin tokyo cairo lima sydney geneva zurich munich hamburg milan naples krakow"
    " bergen porto seville warsaw helsinki stockholm toronto nairobi mumbai delhi havana quito"
    " riga"
)
PLACES = _phrases(
    "airport, train station, city hall, harbor, museum, library, market, post office, stadium,"
    " hospital, school, pharmacy, bakery, gas station, gym, dentist, theater, zoo, beach, campus,"
    " ferry dock, bus stop, town square, car wash, old mill, lighthouse, hardware store, ski slope,"
    " botanical garden, north gate"
)
FOODS = _phrases(
    "milk, bread, eggs, butter, cheese, apples, bananas, rice, pasta, coffee, tea, sugar, flour,"
    " salt, honey, onions, tomatoes, potatoes, carrots, yogurt, olive oil, orange juice, oats,"
    " lemons, garlic, chicken, peanut butter, green beans, soap, paper towels, batteries,"
    " dish soap, cat food, dog food, light bulbs, trash bags, mushrooms, walnuts, spinach,"
    " blueberries, maple syrup, rye bread, almond milk, cinnamon, lentils, red wine, peppers,"
    " cream cheese, noodles, plums"
)
PLAYLISTS = _phrases(
    "soft jazz, morning coffee, classic rock, summer hits, piano dreams, road trip, deep focus,"
    " rainy day, dance party, country roads, slow blues, night drive, happy folk, workout mix,"
    " smooth soul, quiet strings, winter songs, indie garden, old vinyl, salsa night, dinner music,"
    " ocean waves, opera gold, polka time, lofi beats, desert wind, choir evening, sunday brunch,"
    " harp lullaby, brass band"
)
SCENES = _phrases(
    "movie night, good morning, bedtime, party, reading, dinner, away, relax, romance, gaming,"
    " homework, sunrise, vacation, yoga, cooking, study, candlelight, storm, picnic, nap time"
)
CAMERAS = _phrases(
    "front door, driveway, backyard, garden, side gate, back door, patio, pool, balcony, roof,"
    " shed, barn"
)
DOORS = _phrases(
    "front door, back door, garage door, side door, cellar door, garden gate, balcony door,"
    " main gate, shed door, attic door"
)
ZONES = _phrases(
    "front lawn, back lawn, rose bed, vegetable patch, orchard, herb garden, hedge, flower bed,"
    " greenhouse, meadow, terrace, berry patch"
)
SPEAKERS = _phrases("tv, radio, speaker, phone, car stereo, soundbar, headphones, tablet")
EVENTS = _phrases(
    "team meeting, dentist visit, lunch, piano lesson, soccer practice, book club, haircut,"
    " dinner party, job interview, yoga class, budget review, school play, birthday party,"
    " doctor visit, board meeting, swim class, chess club, parent evening, car service,"
    " dance recital, tax appointment, choir practice, site visit, eye exam, poker night,"
    " vet visit"
)
CHORES = _phrases(
    "water the plants, feed the cat, pay the rent, take out the trash, walk the dog,"
    " buy stamps, clean the oven, check the mail, lock the shed, charge the drill, wash the car,"
    " pick up the kids, return the books, stretch my back, defrost the fish, iron the shirts,"
    " mow the lawn, renew the passport, empty the dishwasher, take my pills, order the cake,"
    " book the flights, sweep the porch, rinse the rice, polish the boots, wind the clock,"
    " pack the tent, oil the hinges, mail the parcel, bathe the dog, fold the towels,"
    " prune the roses, sharpen the knives, dust the shelves"
)
NOTES = _phrases(
    "dinner is ready, i am running late, the bus is delayed, see you soon, the door is open,"
    " i love the photos, we need more milk, the meeting moved, the keys are inside,"
    " the train is on time, lunch is on me, the package arrived, i will be home soon,"
    " the kids are asleep, thanks for the help, the roof is leaking, the cat is fine,"
    " we won the game, practice is cancelled, the soup is cold, i found your scarf,"
    " the bridge is closed, the printer works again, my flight just landed, the dog ate the cake,"
    " the lake is frozen, your bike is fixed, the tickets are sold out, the piano sounds great,"
    " i parked behind the bank"
)
REQUESTS = _phrases(
    "switch the light on, turn everything off, dim the lamps, make it brighter, raise the blinds,"
    " lower the shutters, close the curtains, unlock the gate, lock up tonight, wake me early,"
    " set an alarm, start a timer, stop the countdown, remind me later, play something nice,"
    " pause the music, put the song louder, turn the volume down, mute the television,"
    " change the channel, vacuum the floor, hoover the carpet, add it to the shopping list,"
    " put an entry on my calendar, schedule a visit, send a text message, call me back, dial home,"
    " give her a ring, navigate home, take me there, show me the route, give directions,"
    " check the forecast, will it rain, is it going to snow, show the camera feed, look outside,"
    " activate the scene, start the mood, preheat the oven, heat the oven, water the grass,"
    " run the sprinkler, charge the car, warm up the seat, cool the house, heating to twenty,"
    " spin the fan faster, blow slower, set the thermostat, how hot is it, what is the humidity,"
    " measure the air, read the sensor, jot it down, note that, we are out of it, buy some more,"
    " let him know, tell them, start driving, find a way, could you please, would you mind,"
    " i would like to, can you kindly, hey there thanks, okay now, right away, for a while,"
    " half a minute, percent of battery, degrees celsius, low speed, medium heat, high level,"
    " full brightness, the stream, tune in, switch over, pull up, crank it, set up, get it ready,"
    " bring it to, ramp it, fire up, shut it, leave it open, make sure, nudge, ping, jump to,"
    " put on, clean up, sweep through, mark down, pencil in, reserve, slot, drop a line,"
    " get in touch, head over, guide me, plan a route, what is it like, umbrella, view, display,"
    " enter, launch, begin, bake at, soak, irrigate, plug, battery, climate, temperature reading,"
    " slide, fasten, secure, release, paint it, tint, glow, shade, breeze, airflow, notify,"
    " close call, call, level, navigate, station, item, room, amount, unit, time, title, contact,"
    " place, state, zone, duration, destination, colour, color, mode, bright, dark, silent, skip"
)
ANIMALS = _words(
    "cat dog bird horse rabbit fox mouse goat duck hen cow pig frog turtle bear wolf deer owl"
    " sheep pony"
)
OBJECTS = _words(
    "lamp chair table box basket book letter key coat hat scarf cup plate bottle clock mirror"
    " blanket pillow drawer shelf window door candle bag bucket ladder hammer kettle spoon phone"
    " radio camera tablet carpet curtain sofa stove sink towel broom ring coin kite drum map"
)
MATERIALS = _words("wooden glass metal paper woolen leather plastic stone copper cotton")
SIZES = _words("small big tiny large long short round heavy light tall")
MOODS = _words(
    "happy sad tired angry calm proud shy busy hungry cold warm quiet excited worried brave lazy"
)
JOBS = _words(
    "teacher doctor baker farmer driver nurse painter pilot singer cook writer sailor gardener"
    " plumber dentist lawyer clerk tailor miner guard"
)
WEATHERS = _words("sunny rainy cloudy windy snowy foggy stormy warm cold dry hot humid")
DEVICES = _words(
    "light lamp thermostat fan heater blinds shutter lock alarm timer speaker television vacuum"
    " oven sprinkler camera doorbell radiator dishwasher charger phone screen sensor router mower"
    " channel volume brightness temperature playlist reminder calendar message scene level speed"
)
VERBS_PAST = _words(
    "found bought sold carried opened closed cleaned painted moved dropped lost fixed borrowed"
    " wanted washed hid broke packed measured covered saw liked"
)

_ONSETS = _words("b d f g h j k l m n p r s t v w z br dr fl gr kl pl st tr sh th ch")
_VOWELS = _words("a e i o u a e i o ai ea oo")
_CODAS = ["", "", "", "n", "r", "l", "s", "m", "t", "k"]


@lru_cache
def all_words() -> list[str]:
    """Every single word of every public list of this module, sorted."""
    lists = [value for key, value in globals().items() if key.isupper() and key[0] != "_"]
    return sorted({word for phrases in lists for phrase in phrases for word in phrase.split()})


def invent_word(rng: random.Random) -> str:
    """A pronounceable lower-case word of two or three syllables, almost surely in no list."""
    syllables = rng.choice((2, 2, 3))
    parts = [rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(syllables)]
    return "".join(parts) + rng.choice(_CODAS)
