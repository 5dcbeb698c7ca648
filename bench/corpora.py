"""Texts with known contents for bench/data.py: personal data, near duplicates, leaked rows."""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable
from typing import NamedTuple

LETTERS = string.ascii_letters + string.digits
FIRST = ("anna", "ben", "carla", "david", "elif", "farid", "greta", "hugo", "ines", "jonas",
         "kaya", "liam", "maria", "nadia", "oskar")  # fmt: skip
LAST = ("smith", "garcia", "mueller", "rossi", "novak", "yilmaz", "tanaka", "silva", "olsen",
        "kumar", "dubois", "kowalski")  # fmt: skip
DOMAINS = ("example.com", "mail.example.org", "uni-berlin.de", "shop.co.uk", "acme.io",
           "post.example.fr", "x-ray.dev", "company.com.br", "kaffee.haus")  # fmt: skip
SENTENCES = (
    "Please find the details below and let me know if anything is missing.",
    "We tried to reach you yesterday but nobody answered.",
    "The weather in the north was cold, so the delivery arrived two days late.",
    "Could you summarise the report for the team before the meeting?",
    "He reads three books a week and writes a short note on each of them.",
    "The function returns a list of the values that are larger than the mean.",
    "In 2019 the company had 45 employees; by 2023 there were 210 of them.",
    "A cup of flour, two eggs and half a litre of milk are all that you need.",
    "The train leaves at quarter past nine and takes about four hours.",
    "Explain in simple words why the sky is blue and sunsets are red.",
    "She asked whether the second option would be cheaper in the long run.",
    "Sort the rows by date, drop the empty ones and keep the first of each group.",
)


class Value(NamedTuple):
    """A value in a text: its kind, and where it begins and ends."""

    kind: str
    start: int
    end: int


def _code(chance: random.Random, count: int, letters: str = LETTERS) -> str:
    return "".join(chance.choices(letters, k=count))


def _digits(chance: random.Random, count: int) -> str:
    return _code(chance, count, string.digits)


def fill(chance: random.Random, pattern: str) -> str:
    """Replace each ``#`` by a digit, ``%`` by one that is not 0 or 1, ``~`` by a hexadecimal."""
    drawn = {"#": string.digits, "%": "23456789", "~": "0123456789abcdef"}
    return "".join(chance.choice(drawn[c]) if c in drawn else c for c in pattern)


def make_email(chance: random.Random) -> str:
    first, last, domain = chance.choice(FIRST), chance.choice(LAST), chance.choice(DOMAINS)
    tag = chance.choice(("news", "bank", "x1"))
    forms = (f"{first}.{last}", f"{first[0]}{last}{chance.randrange(99)}", f"{first}_{last}",
             f"{first}+{tag}", f"{first}-{last}", last)  # fmt: skip
    address = f"{chance.choice(forms)}@{domain}"
    return address.title() if chance.random() < 0.1 else address


PHONES = (
    "+1 %#%-%##-####", "+1 (%#%) %##-####", "+1%#%%######", "(%#%) %##-####", "%#%-%##-####",
    "%#%.%##.####", "%#% %## ####", "1-%#%-%##-####", "+44 20 7### ####", "020 7### ####",
    "07### ######", "+44 7### ######", "+49 30 %######", "+49 (0)89 %#####", "030 %######",
    "0171 #######", "0176/########", "0049 30 #######", "+33 % ## ## ## ##", "0% ## ## ## ##",
    "0%.##.##.##.##", "+34 9## ### ###", "+91 9#### #####", "+919#########", "+86 13# #### ####",
    "+41 44 ### ## ##", "+55 11 9####-####", "+39 06 #### ####", "+81-3-####-####",
    "+61 2 #### ####",
)  # fmt: skip


def make_phone(chance: random.Random) -> str:
    return fill(chance, chance.choice(PHONES))


def make_said_phone(chance: random.Random) -> str:
    """A number that only the word before it makes one of a phone."""
    return fill(chance, "%#########")


IBANS = {"DE": "18", "GB": "4a14", "FR": "23", "NL": "4a10", "ES": "20", "IT": "1a22", "AT": "16",
         "CH": "17", "BE": "12", "PL": "24", "SE": "20", "PT": "21", "IE": "4a14", "NO": "11",
         "DK": "14"}  # fmt: skip


def make_iban(chance: random.Random, valid: bool = True) -> str:
    country, form = chance.choice(sorted(IBANS.items()))
    letters, _, digits = form.rpartition("a")
    body = _code(chance, int(letters or 0), string.ascii_uppercase) + _digits(chance, int(digits))
    number = int("".join(str(int(c, 36)) for c in f"{body}{country}00"))
    check = 98 - number % 97
    if not valid:
        check = 2 + (check - 2 + chance.randint(1, 94)) % 97
    plain = f"{country}{check:02d}{body}"
    if chance.random() < 0.5:
        return plain
    return " ".join(plain[n : n + 4] for n in range(0, len(plain), 4))


def luhn_digit(digits: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


CARDS = (("4", 16), ("51", 16), ("55", 16), ("37", 15), ("34", 15), ("6011", 16), ("2221", 16),
         ("3530", 16))  # fmt: skip


def make_card(chance: random.Random, valid: bool = True) -> str:
    prefix, length = chance.choice(CARDS)
    body = prefix + _digits(chance, length - len(prefix) - 1)
    check = luhn_digit(body)
    if not valid:
        check = str((int(check) + chance.randint(1, 9)) % 10)
    plain = body + check
    cuts = (4, 10) if length == 15 else (4, 8, 12)
    parts = [plain[a:b] for a, b in zip((0, *cuts), (*cuts, length), strict=True)]
    return chance.choice(("", " ", "-")).join(parts)


def make_ip(chance: random.Random) -> str:
    if chance.random() < 0.6:
        first = chance.choice((10, 23, 84, 142, 172, 192, 203))
        return f"{first}." + ".".join(str(chance.randint(0, 255)) for _ in range(3))
    parts = [f"{chance.randint(4096, 65535):x}" for _ in range(8)]
    return chance.choice((":".join(parts), f"2001:db8:{parts[0]}::{parts[1]}",
                          f"fe80::{parts[2]}:{parts[3]}:{parts[4]}:{parts[5]}"))  # fmt: skip


def make_key(chance: random.Random) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    lines = "\n".join(_code(chance, 64, LETTERS + "+/") for _ in range(3))
    jwt = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part({'sub': _digits(chance, 10)})}"
    capitals = string.ascii_uppercase + "234567"
    return chance.choice(
        (
            f"{jwt}.{_code(chance, 43, LETTERS + '-_')}",
            f"AKIA{_code(chance, 16, capitals)}",
            f"gh{chance.choice('pousr')}_{_code(chance, 36)}",
            f"github_pat_{_code(chance, 22)}_{_code(chance, 59)}",
            f"sk-{_code(chance, 48)}",
            f"sk-proj-{_code(chance, 40)}",
            f"sk-ant-api03-{_code(chance, 60)}",
            fill(chance, "xoxb-###########-###########-") + _code(chance, 24),
            f"AIza{_code(chance, 35, LETTERS + '-_')}",
            f"hf_{_code(chance, 34)}",
            f"glpat-{_code(chance, 20)}",
            f"sk_live_{_code(chance, 24)}",
            f"-----BEGIN RSA PRIVATE KEY-----\n{lines}\n-----END RSA PRIVATE KEY-----",
            f"-----BEGIN PRIVATE KEY-----\n{lines}\n-----END PRIVATE KEY-----",
        )
    )


MAKERS: dict[str, Callable[[random.Random], str]] = {
    "email": make_email, "phone": make_phone, "iban": make_iban, "card": make_card,
    "ip": make_ip, "key": make_key,
}  # fmt: skip
#: What a sentence says of a value, by kind; some say nothing.
FRAMES = {
    "email": ("Write to {} please.", "My address is {}, thanks.", "Contact <{}> for more.",
              "from: {}", "({})", "mailto:{}"),
    "phone": ("Call {} after six.", "You can reach me at {}.", "Tel.: {}", "phone={}", "({})",
              "It was {}, I think.", "Fax {}; no mail."),
    "iban": ("Send it to {} by Friday.", "IBAN: {}", "The account is {}.", "iban={};"),
    "card": ("I paid with {} last week.", "card number {}", "Visa {}, valid until 09/27.", "({})"),
    "ip": ("The host {} does not answer.", "ping {}", "Login from {} at 12:30:45.", "server={}"),
    "key": ("export TOKEN={}", "The key is {} for now.", "Authorization: Bearer {}", '"{}"'),
}  # fmt: skip


#: Texts that look like personal data and are none; in those of one pattern, drawn by ``fill``.
NEGATIVES = (
    "version 1%.#.#####.##", "v%.#.#.#", "see section %.%.#.%", "Chrome/12#.0.%###.1##",
    "order %#######", "order %#########", "order %###########", "invoice INV-20%#-#####",
    "ticket #%#####", "part no. ###-#####-##", "20%#-0%-1#", "1#.0%.20%#", "0%/1#/20%#",
    "20%#-0%-1#T1#:3#:5#Z", "1#:3#:5#", "from 19##-20##", "~" * 32, "~" * 40, "~" * 64,
    "commit ~~~~~~~", "~~~~~~~~-~~~~-4~~~-a~~~-~~~~~~~~~~~~", "DE12 IS THE ROAD",
    "AB12 CDEF GHIJ KLMN", "FR20 MODELS", "IT13 A320 NEO", "#.#########", "0.############",
    "%,###,###.##", "5#.####, 1#.####", "ISBN 978-3-16-14####-#", "@anna## said so",
    "@property def size(self)", "std::chrono::seconds", "a::b::c", "::1", "127.0.0.1",
    "~~:~~:~~:~~:~~:~~", "100 200 300 400 500 600 700", "## + ### = ####", "%-#",
    "room %##, floor %", "sk-learn and sklearn", "the skeleton-key-of-the-old-tower",
    "token = next(tokens)", "password: the name of your first pet", "id=8###############",
    "GMT+%", "card", "iban",
)  # fmt: skip


def make_negative(chance: random.Random) -> str:
    """Return a text that looks like personal data: cards and accounts with a wrong checksum too."""
    pattern = chance.choice(NEGATIVES)
    if pattern == "card":
        return make_card(chance, valid=False)
    return make_iban(chance, valid=False) if pattern == "iban" else fill(chance, pattern)


def make_text(chance: random.Random) -> tuple[str, list[Value]]:
    """Return a text of about 1,000 characters: prose, up to three values, three look-alikes."""
    parts: list[tuple[str, str, str]] = []
    for _ in range(chance.choice((0, 1, 2, 3))):
        kind = chance.choice(sorted(MAKERS))
        before, _, after = chance.choice(FRAMES[kind]).partition("{}")
        said = kind == "phone" and before.startswith(("Call", "Tel", "phone", "Fax"))
        make = make_said_phone if said and chance.random() < 0.3 else MAKERS[kind]
        parts.append((kind, before, make(chance) + "\0" + after))
    parts += [("", f"We noted {make_negative(chance)} there.", "") for _ in range(3)]
    parts += [("", chance.choice(SENTENCES), "") for _ in range(12)]
    chance.shuffle(parts)
    text, values = "", []
    for kind, before, rest in parts:
        value, _, after = rest.partition("\0")
        start = len(text) + len(before)
        if kind:
            values.append(Value(kind, start, start + len(value)))
        text += f"{before}{value}{after}{chance.choice((' ', ' ', chr(10)))}"
    return text, values


def make_texts(count: int, seed: int) -> list[tuple[str, list[Value]]]:
    """Return texts with the values in them."""
    chance = random.Random(seed)
    return [make_text(chance) for _ in range(count)]


def _make_vocabulary(size: int) -> list[str]:
    """Return made-up words, the more frequent the shorter, always the same ones."""
    chance = random.Random(0)
    words: dict[str, None] = {}
    while len(words) < size:
        length = min(2 + len(words) * 8 // size + chance.randint(0, 3), 12)
        word = "".join(
            chance.choice("aeiou" if place % 2 else "bcdfghklmnprstvw") for place in range(length)
        )
        words[word] = None
    return list(words)


VOCABULARY = _make_vocabulary(20_000)


def make_prose(chance: random.Random, words: int) -> str:
    """Return a text of so many words, their frequencies falling as those of a language do."""
    size = len(VOCABULARY)
    return " ".join(VOCABULARY[int(size ** chance.random()) - 1] for _ in range(words))


def change_words(chance: random.Random, text: str, count: int) -> str:
    """Return a text with so many of its words replaced."""
    words = text.split(" ")
    for _ in range(count):
        words[chance.randrange(len(words))] = chance.choice(VOCABULARY)
    return " ".join(words)


def make_chat(chance: random.Random) -> tuple[str, str]:
    """Return a question and its answer, about 300 tokens in all."""
    return make_prose(chance, 25), make_prose(chance, 112)
