"""Kinds of personal data and secrets: patterns for candidates, checksums for the verdict.

A text is first reduced to the class of each of its characters, in one pass in C. Candidates are
found in these classes by patterns that begin with a literal, which are searched for at the speed
of memory; only what surrounds a candidate is read by slower ones.
"""

from __future__ import annotations

import re
import socket
import string
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from edgetune.data.clean.checksums import IBAN_LENGTHS, is_card, is_iban
from edgetune.data.clean.phones import ACCOUNT, find_phones
from edgetune.data.clean.spans import Scan, Span

# Of the classes, those that keys and tokens are made of; they have 20 characters at least.
_TOKENS = bytes(ord("x") if chr(one) in "0aA_-+/." else ord(" ") for one in range(256))
_LONG_TOKEN = b"x" * 20
_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"  # JSON web token
    r"|A[KS]IA[0-9A-Z]{16}\b|AIza[\w-]{35}(?![\w-])"  # Amazon, Google
    r"|sk-(?=[\w-]{0,200}\d)[\w-]{20,}|[srp]k_(?:live|test)_[A-Za-z0-9]{16,}\b"  # OpenAI, Stripe
    r"|gh[pousr]_[A-Za-z0-9]{36,251}\b|github_pat_\w{60,100}\b|glpat-[\w-]{20,}"
    r"|xox[abeoprs]-[\w-]{15,}|hf_[A-Za-z0-9]{30,}\b|npm_[A-Za-z0-9]{36}\b|pypi-[\w-]{50,}"
    r"|SG\.[\w-]{16,}\.[\w-]{16,})",  # SendGrid
    re.ASCII,
)
#: Marks of keys that have no other characters than letters and digits.
_UNMARKED = ("AKIA", "ASIA", "AIza")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:(?!-----BEGIN)[^\0])*?"
    r"(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|(?=\0)|\Z)"
)
# What is before a value that is given to a name.
_ASSIGNING = frozenset("=:>\"' ")
# The name and the sign before a value that is secret.
_SECRET = re.compile(
    r"(?i)(?:api_?-?key|secret|token|passw(?:or)?d|auth)\w*[\"']?\s*(?:=>|[:=])\s*[\"']?\Z"
)

_DOMAIN = re.compile(r"@((?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_]{2,24})(?![\w-])")
_LOCAL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}\Z")

# As cards write their numbers: in one, in fours, or four, six and five.
_CARD = re.compile(rb"0{13,19}|0000[ -]000(?:0[ -]0000[ -]0000|000[ -]00000)")
_DOTTED = re.compile(rb"\.0{1,3}\.0{1,3}\.0{1,3}")
# Products give theirs after a slash, as browsers do.
_VERSION = re.compile(
    r"(?i)(?:(?:v|version|release|build|firmware|section|chapter|§)[.:]?\s*|\w/)\Z"
)
_COLONS = re.compile(rb":[0aA]{0,4}:(?:[0aA]{0,4}:|0)")
_LONGEST_IP = 39
_HEXADECIMAL = frozenset(string.hexdigits + ":")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")


def find_keys(scan: Scan) -> Iterator[Span]:
    """Find keys and tokens by their marks, private keys, and what a name says is secret."""
    text = scan.text
    tokens = scan.classes.translate(_TOKENS)
    start = tokens.find(_LONG_TOKEN)
    while start >= 0:
        end = tokens.find(b" ", start)
        end = len(tokens) if end < 0 else end
        yield from _find_token(text, start, end)
        start = tokens.find(_LONG_TOKEN, end)
    if "-----BEGIN " in text:
        for match in _PRIVATE_KEY.finditer(text):
            yield Span(*match.span(), match.group())


def _find_token(text: str, start: int, end: int) -> Iterator[Span]:
    """Find the keys in a token, or that it is one as a whole."""
    last, token = start, text[start:end]
    if not token.isalnum() or any(mark in token for mark in _UNMARKED):
        for match in _KEY.finditer(text, start, end):
            last = match.end()
            yield Span(match.start(), last, match.group())
    if last == start and text[start - 1 : start] in _ASSIGNING:
        yield from _find_named(text, start, end)


def _find_named(text: str, start: int, end: int) -> Iterator[Span]:
    """Find a token of letters and digits that its name says is secret."""
    value = text[start:end]
    before = text[max(0, start - 40) : start]
    if _SECRET.search(before) and any(map(str.isdigit, value)) and any(map(str.isalpha, value)):
        padding = len(text[end : end + 2]) - len(text[end : end + 2].lstrip("="))
        yield Span(start, end + padding, value)


def find_emails(scan: Scan) -> Iterator[Span]:
    """Find mail addresses."""
    if b"@" not in scan.classes:
        return
    text = scan.text
    for match in _DOMAIN.finditer(text):
        local = _LOCAL.search(text[max(0, match.start() - 64) : match.start()])
        if local is not None:
            name = local.group().lstrip(".'`/=-!*{|?&#")
            start = match.start() - len(name)
            if name and not name.endswith("."):
                yield Span(start, match.end(), text[start : match.end()].lower())


def find_ibans(scan: Scan) -> Iterator[Span]:
    """Find account numbers: a country's length, and a remainder of 1 modulo 97 (ISO 13616)."""
    text, classes = scan.text, scan.classes
    start = classes.find(b"AA00")
    while start >= 0:
        length = IBAN_LENGTHS.get(text[start : start + 2], 0)
        grouped = length > 0 and classes[start + 4 : start + 5] in (b" ", b"-")
        end = start + length + (length - 1) // 4 * grouped
        plain = _join_groups(text[start:end])
        if length and len(plain) == length and is_iban(plain) and _is_word(text, start, end):
            yield Span(start, end, plain)
        start = classes.find(b"AA00", start + 1)


def find_cards(scan: Scan) -> Iterator[Span]:
    """Find card numbers: an issuer's prefix and length, and Luhn's checksum."""
    for begin, finish, count in scan.runs:
        if count < 13 or (scan.taken[begin] and scan.taken[finish - 1]):
            continue
        for match in _CARD.finditer(scan.classes, begin, finish):
            start, end = match.span()
            if scan.classes[max(0, start - 10) : start].endswith(ACCOUNT):
                continue
            digits = _join_groups(scan.text[start:end])
            if is_card(digits) and _stands_alone(scan.text, start, end):
                yield Span(start, end, digits)


def _join_groups(number: str) -> str:
    return number.replace(" ", "").replace("-", "").replace("\u00a0", "")


def _is_word(text: str, start: int, end: int) -> bool:
    """Whether neither letter nor digit is next to a value."""
    return not (text[max(0, start - 1) : start].isalnum() or text[end : end + 1].isalnum())


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether no letter, digit or decimal point is next to a number."""
    decimal = text[end : end + 1] == "." and text[end + 1 : end + 2].isdigit()
    before, after = text[max(0, start - 1) : start], text[end : end + 1]
    beside = before in (".", "-", "_", "+") or after in ("-", "_")
    return not (decimal or beside) and _is_word(text, start, end)


def find_ips(scan: Scan) -> Iterator[Span]:
    """Find IP addresses, but none that means the machine itself, any machine or a mask."""
    text, classes = scan.text, scan.classes
    for match in _DOTTED.finditer(classes):
        start, end = match.span()
        begin = max(0, start - 3)
        start = begin + len(classes[begin:start].rstrip(b"0"))
        value = text[start:end]
        if _stands_alone(text, start, end) and _is_address(value):
            before = text[max(0, start - 12) : start]
            if _VERSION.search(before) is None:
                yield Span(start, end, value)
    last = 0
    for match in _COLONS.finditer(classes):
        if match.start() < last:
            continue
        start = match.start() + (text[match.start()] != ":")  # "=" is of the same class
        floor = max(last, start - _LONGEST_IP)
        while start > floor and text[start - 1] in _HEXADECIMAL:
            start -= 1
        found = _IPV6.match(text, start)
        if found is not None:
            value, last = found.group().lower(), found.end()
            if len(value) > 6 and _is_address(value):
                yield Span(start, last, value)


def _is_address(text: str) -> bool:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        socket.inet_pton(family, text)
    except OSError:
        return False
    return not text.startswith(("0.", "127.", "255."))


class Kind(NamedTuple):
    """A kind of personal data."""

    name: str
    find: Callable[[Scan], Iterable[Span]]


#: A value that several find is of the first one's kind.
KINDS = (
    Kind("key", find_keys),
    Kind("email", find_emails),
    Kind("iban", find_ibans),
    Kind("card", find_cards),
    Kind("ip", find_ips),
    Kind("phone", find_phones),
)
