"""Phone numbers: in the forms of their countries, and any that a word before says is one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgetune.data.clean.spans import Scan, Span

#: What the head of an account number looks like, as classes; its checksum was wrong.
ACCOUNT = (b"AA00 ", b"AA00 AAAA ", b"AA00 A000 ")
#: Characters of two numbers; longer runs are tables.
LONGEST = 64
_SEP = "[ .\u00a0/-]"
_FORMS = re.compile(
    r"(?<!\d)(?:"
    # International: a country's code, then groups.
    r"\+[1-9]\d{9,14}"
    r"|(?:\(\+[1-9]\d{0,2}\)|\+[1-9]\d{0,2}(?=[ .\u00a0()/-]))(?:[ .\u00a0()/-]{0,3}\d){5,14}"
    rf"|00[1-9]\d{{0,2}}{_SEP}\(?\d{{1,5}}\)?(?:{_SEP}{{0,2}}\d{{2,8}}){{1,5}}"
    # North America.
    rf"|(?:1{_SEP})?(?:\([2-9]\d\d\){_SEP}?|[2-9]\d\d{_SEP})[2-9]\d\d{_SEP}\d{{4}}"
    # A trunk's 0 and an area's code.
    r"|\(0[1-9]\d{0,4}\) ?\d{2,8}(?:[ -]\d{2,8}){0,3}"
    r"|0[1-9]\d{0,4}(?: ?[/-] ?| )\d{2,8}(?:[ -]\d{2,8}){0,4}"
    r"|0[1-9](?:\.\d\d){4}"
    # Brazil, Spain.
    r"|\(\d\d\) ?9?\d{4}-\d{4}|[6-9]\d\d \d\d \d\d \d\d"
    r")(?!\d)"
)
# Dates, and dates with the hour of a time, as classes.
_DATES = frozenset({b"0000-00-00", b"00.00.0000", b"00/00/0000", b"00-00-0000", b"0000/00/00",
                    b"0000-00-00 00", b"00.00.0000 00", b"0.000000000"})  # fmt: skip
_DATE = re.compile(
    r"(?<!\d)(?:\d{1,2}([-/. ])\d{1,2}\1(?:19|20)\d\d|(?:19|20)\d\d([-/.])\d\d?\2\d\d?)(?!\d)"
)
# Words before a number that say that it is one of a phone.
_PHONES = frozenset({
    "tel", "tél", "telephone", "phone", "phones", "phonenumber", "telefon", "telefonnummer",
    "teléfono", "teléfonos", "fon", "fono", "fax", "mobile", "mobil", "mobilnummer", "móvil",
    "handy", "handynummer", "cell", "cellphone", "call", "whatsapp", "sms", "dial",
    "ring", "hotline", "ruf", "anruf", "rufnummer", "téléphone", "telefone"
})  # fmt: skip
# Words that may be between.
_BETWEEN = frozenset({
    "me", "us", "him", "her", "them", "is", "number", "num", "no", "nr", "at", "on", "unter",
    "an", "ist", "under", "to", "my", "our"
})  # fmt: skip
# Words before a number that is something else's.
_REFERENCES = frozenset({
    "part", "order", "ticket", "invoice", "item", "article", "art", "ref", "reference", "id",
    "sku", "isbn", "issn", "serial", "account", "case", "tracking", "no", "nr"
})  # fmt: skip
_WHOLE = re.compile(r"\+?\d{7,15}(?!\d|[-.]\d)")
# After these a number is part of something else.
_BEFORE_NONE = frozenset("-#/._,$€£")
_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"[^\W\d_]+")
_YEAR = re.compile(r"(?:19|20)\d\d")
_LONG = re.compile(r"\d{3,}")


def find_phones(scan: Scan) -> Iterator[Span]:
    """Find phone numbers among the runs of digits."""
    text, classes = scan.text, scan.classes
    for start, end, count in _split(scan):
        last = classes[start - 1] if start else 0
        if scan.taken[start] and scan.taken[end - 1]:
            continue
        if last in b"aA_." or classes[end : end + 1] in (b"a", b"A") or end - start > LONGEST:
            continue
        if classes[start:end] in _DATES:
            continue
        if last in b" -" and classes[max(0, start - 10) : start].endswith(ACCOUNT):
            continue
        while start and text[start - 1] in "+(":
            start -= 1
        if text[start] == "(" and ")" not in text[start:end]:
            start += 1
        before = text[max(0, start - 32) : start].rpartition("\0")[2]  # of this text
        if before[-1:].isalnum() or before[-1:] in _BEFORE_NONE:
            continue
        words = _WORD.findall(_DIGITS.split(before)[-1].lower())
        number = text[start:end]
        if count <= 15 and _says_phone(words):
            whole = _WHOLE.match(number)
            end = end if whole is None else start + whole.end()
            yield Span(start, end, _digits(text[start:end]))
        elif not (number.isdigit() or (words and words[-1] in _REFERENCES)):
            yield from _find_forms(number, start)


def _split(scan: Scan) -> Iterator[tuple[int, int, int]]:
    """Yield the runs of digits, in two where a bracket opens after a whole number."""
    for start, end, count in scan.runs:
        bracket = scan.classes.find(b"(", start + 8, end)
        if bracket < 0:
            yield start, end, count
            continue
        first = scan.classes[start:bracket].rstrip(b" /-")
        yield start, start + len(first), first.count(b"0")
        if end - bracket > 7:
            yield bracket + 1, end, count - first.count(b"0")


def _says_phone(words: list[str]) -> bool:
    """Whether the words before a number end with one that says that it is a phone's."""
    for word in words[:-5:-1]:
        if word in _PHONES:
            return True
        if word not in _BETWEEN:
            return False
    return False


def _find_forms(run: str, offset: int) -> Iterator[Span]:
    """Find the numbers of a run, if they leave no long group of it: parts of other numbers."""
    if not run.startswith("+"):
        run = _DATE.sub(lambda date: "#" * len(date.group()), run)
    found = [
        (*match.span(), digits)
        for match in _FORMS.finditer(run)
        if 8 <= len(digits := _digits(match.group())) <= 15
    ]
    rest, last = "", 0
    for start, end, _ in found:
        rest += f"{run[last:start]} "
        last = end
    rest += run[last:]
    if found and not _LONG.search(_YEAR.sub("", rest)):
        for start, end, digits in found:
            yield Span(offset + start, offset + end, digits)


def _digits(number: str) -> str:
    return "".join(filter(str.isdigit, number))
