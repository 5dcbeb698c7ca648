"""Kinds of personal data and secrets: patterns for candidates, checksums for the verdict."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from edgetune.data.clean.checksums import is_card, is_iban


class Span(NamedTuple):
    """Where a value is in a text, and the value in one spelling, by which equal ones are known."""

    start: int
    end: int
    value: str


_SECRETS = {
    "-----BEGIN": r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:(?!-----BEGIN).)*?"
                  r"(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    "eyJ": r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}",
    "AKIA": r"\bAKIA[0-9A-Z]{16}\b",
    "ASIA": r"\bASIA[0-9A-Z]{16}\b",
    "gh": r"\bgh[pousr]_[A-Za-z0-9]{36,251}\b",
    "github_pat_": r"\bgithub_pat_\w{60,100}\b",
    "glpat-": r"\bglpat-[\w-]{20,}",
    "sk-": r"\bsk-(?=[\w-]*\d)[\w-]{20,}",
    "k_live_": r"\b[srp]k_live_[A-Za-z0-9]{16,}\b",
    "k_test_": r"\b[srp]k_test_[A-Za-z0-9]{16,}\b",
    "xox": r"\bxox[abeoprs]-[\w-]{10,}",
    "AIza": r"\bAIza[\w-]{35}(?![\w-])",
    "hf_": r"\bhf_[A-Za-z0-9]{30,}\b",
    "npm_": r"\bnpm_[A-Za-z0-9]{36}\b",
    "pypi-": r"\bpypi-[\w-]{50,}",
    "SG.": r"\bSG\.[\w-]{16,}\.[\w-]{16,}",
}  # fmt: skip
_SECRET_PATTERNS = {mark: re.compile(text, re.DOTALL) for mark, text in _SECRETS.items()}
# A value that a name says is secret: long, and of letters and digits.
_NAMED = re.compile(
    r"(?i)\b\w*(?:api_?-?key|secret|token|passw(?:or)?d|auth)\w*[\"']?\s*(?:=>|[:=])\s*[\"']?"
    r"((?=[\w/+.-]*[0-9])(?=[\w/+.-]*[A-Za-z])[\w/+.-]{20,}={0,2})"
)
_NAMES = re.compile(r"(?i)key|secret|token|passw|auth")

_DOMAIN = re.compile(r"@((?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_]{2,24})(?![\w-])")
_LOCAL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}\Z")

_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?\b")
_CARD = re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){12,18}(?![\w-]|\.\d)")
_IPV4 = re.compile(r"(?<![\w.+/-])\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)")
_VERSION = re.compile(r"(?i)(?:v|ver|version|release|build|firmware|section|chapter)[.:]?\s*\Z")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")

_DIGIT = re.compile(r"\d")
_SEP = r"[ .\u00a0\u2011/-]"
_PHONE = re.compile(
    r"(?<![\w.+/=-])(?:"
    # International: a country's code, then groups.
    rf"(?:\+|00)[1-9]\d{{0,2}}{_SEP}?(?:\(0\){_SEP}?)?\(?\d{{1,5}}\)?(?:{_SEP}{{0,2}}\d{{2,8}}){{1,5}}"
    # North America.
    rf"|(?:1{_SEP})?(?:\([2-9]\d\d\){_SEP}?|[2-9]\d\d{_SEP})[2-9]\d\d{_SEP}\d{{4}}"
    # A trunk's 0 and an area's code.
    rf"|\(0\d{{1,5}}\){_SEP}?\d{{2,8}}(?:{_SEP}\d{{2,8}}){{0,3}}"
    rf"|0[1-9]\d{{0,4}}(?: ?[/-] ?| )\d{{2,8}}(?:[ -]\d{{2,8}}){{0,4}}"
    r"|0[1-9](?:\.\d\d){4}"
    r")(?![\w-]|[./]\d)"
)
_SAID = re.compile(
    r"(?i)\b(?:tel|phone|telephone|telefon|tel[eé]fono|t[eé]l|fon|fax|mobile?|mobil|handy|cell"
    r"|call|text|ring|whatsapp|sms|ruf|contact)\w{0,8}[ .:#]*(?:(?:me|us|him|her|them|is|number|no"
    r"|nr|at|on|unter|an|ist|under|to)\b[ .:]*){0,3}"
    r"(\+?\(?\d(?:[ .()/-]{0,2}\d){6,14})(?![\w-]|\.\d)"
)


def find_keys(text: str) -> Iterator[Span]:
    """Find keys and tokens by their marks, private keys, and what a name says is secret."""
    for mark, pattern in _SECRET_PATTERNS.items():
        if mark in text:
            for match in pattern.finditer(text):
                yield Span(*match.span(), match.group())
    if _NAMES.search(text):
        for match in _NAMED.finditer(text):
            yield Span(*match.span(1), match.group(1))


def find_emails(text: str) -> Iterator[Span]:
    """Find mail addresses."""
    if "@" not in text:
        return
    for match in _DOMAIN.finditer(text):
        local = _LOCAL.search(text[max(0, match.start() - 64) : match.start()])
        if local is not None:
            name = local.group().lstrip(".'`/=-!*{|?&#")
            start = match.start() - len(name)
            if name and not name.endswith("."):
                yield Span(start, match.end(), text[start : match.end()].lower())


def find_ibans(text: str) -> Iterator[Span]:
    """Find account numbers: a country's length, and a remainder of 1 modulo 97 (ISO 13616)."""
    for match in _IBAN.finditer(text):
        value, end = match.group(), match.end()
        while value:
            plain = value.replace(" ", "").replace("-", "")
            if is_iban(plain):
                yield Span(match.start(), end, plain)
                break
            # A word in capitals may follow the number.
            shorter = value.rpartition(" ")[0]
            end -= len(value) - len(shorter)
            value = shorter


def find_cards(text: str) -> Iterator[Span]:
    """Find card numbers: an issuer's prefix and length, and Luhn's checksum."""
    for match in _CARD.finditer(text):
        digits = match.group().replace(" ", "").replace("-", "")
        if is_card(digits):
            yield Span(*match.span(), digits)


def find_ips(text: str) -> Iterator[Span]:
    """Find IP addresses, but none that means the machine itself, any machine or a mask."""
    if text.count(".") >= 3:
        for match in _IPV4.finditer(text):
            before = text[max(0, match.start() - 12) : match.start()]
            if not _VERSION.search(before) and _is_address(match.group()):
                yield Span(*match.span(), match.group())
    if text.count(":") >= 2:
        for match in _IPV6.finditer(text):
            value = match.group().lower()
            if _DIGIT.search(value) and len(value) > 6 and _is_address(value):
                yield Span(*match.span(), value)


def _is_address(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or text.startswith(("0.", "255.")))


def find_phones(text: str) -> Iterator[Span]:
    """Find phone numbers in the forms of their countries, and any after a word that says so."""
    for match in _PHONE.finditer(text):
        yield from _phone(*match.span(), match.group())
    for match in _SAID.finditer(text):
        yield from _phone(*match.span(1), match.group(1))


def _phone(start: int, end: int, text: str) -> Iterable[Span]:
    digits = "".join(character for character in text if character.isdigit())
    if 7 <= len(digits) <= 15:
        return [Span(start, end, digits)]
    return []


#: Kind -> finder. A value that several find is of the first one's kind.
KINDS: dict[str, Callable[[str], Iterable[Span]]] = {
    "key": find_keys,
    "email": find_emails,
    "iban": find_ibans,
    "card": find_cards,
    "ip": find_ips,
    "phone": find_phones,
}
