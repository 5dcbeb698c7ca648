"""Checksums of account and card numbers."""

from __future__ import annotations

import string

#: Country -> characters of its account numbers (SWIFT, IBAN Registry).
IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22,
    "BI": 27, "BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27,
    "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27,
    "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32,
    "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19,
    "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24,
    "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31,
    "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23,
    "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip
_VALUES = {letter: str(10 + place) for place, letter in enumerate(string.ascii_uppercase)}
_DOUBLED = str.maketrans("0123456789", "0246813579")
#: First and last prefix of an issuer, as digits, and the lengths of its numbers (ISO/IEC 7812).
CARDS = (
    ("4", "4", (13, 16, 19)),  # Visa
    ("51", "55", (16,)), ("2221", "2720", (16,)),  # Mastercard
    ("34", "34", (15,)), ("37", "37", (15,)),  # American Express
    ("300", "305", (14,)), ("36", "36", (14,)), ("38", "39", (14,)),  # Diners Club
    ("6011", "6011", (16, 19)), ("644", "659", (16, 19)),  # Discover
    ("3528", "3589", (16,)),  # JCB
    ("62", "62", (16, 17, 18, 19)),  # UnionPay
    ("50", "50", (16,)), ("56", "58", (16,)), ("67", "67", (16,)),  # Maestro
)  # fmt: skip


def is_iban(text: str) -> bool:
    """Whether this is an account number: its country's length, remainder 1 modulo 97."""
    if IBAN_LENGTHS.get(text[:2]) != len(text):
        return False
    digits = text[4:] + text[:4]
    for letter in set(digits).intersection(_VALUES):
        digits = digits.replace(letter, _VALUES[letter])
    return digits.isdecimal() and digits.isascii() and int(digits) % 97 == 1


def is_card(digits: str) -> bool:
    """Whether this is a card's number: an issuer's prefix and length, Luhn's checksum."""
    if luhn(digits) % 10:
        return False
    return any(
        len(digits) in lengths and low <= digits[: len(low)] <= high for low, high, lengths in CARDS
    )


def luhn(digits: str) -> int:
    """Return Luhn's sum: every second digit from the right doubled, digits of those added."""
    return sum(map(int, digits[-1::-2] + digits[-2::-2].translate(_DOUBLED)))
