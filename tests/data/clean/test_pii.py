"""Personal data and secrets: found by form and checksum, replaced alike, never quoted."""

from __future__ import annotations

import json
import time

import pytest

from bench.corpora import make_texts
from edgetune.data.clean import clean_rows
from edgetune.data.clean.pii import find_spans
from edgetune.recipe import CleanSection
from tests.data.clean.rows import make_row

FIX = CleanSection(pii="fix")


def list_values(text: str) -> list[tuple[str, str]]:
    return [(kind, text[span.start : span.end]) for kind, span in find_spans(text)]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("mail me (Jane.Doe+x@mail.example.co.uk).", "email", "Jane.Doe+x@mail.example.co.uk"),
        ("jürgen@straße.de schrieb", "email", "jürgen@straße.de"),
        ("+49 (0)89 1234567", "phone", "+49 (0)89 1234567"),
        ("ring (415) 555-2671 now", "phone", "(415) 555-2671"),
        ('{"phone": "4155552671"}', "phone", "4155552671"),
        ("06.12.34.56.78", "phone", "06.12.34.56.78"),
        ("2024-01-15 415-555-2671", "phone", "415-555-2671"),
        ("ligue (11) 96123-4567", "phone", "(11) 96123-4567"),
        ("GB29NWBK60161331926819", "iban", "GB29NWBK60161331926819"),
        ("DE89 3704 0044 0532 0130 00 today", "iban", "DE89 3704 0044 0532 0130 00"),
        ("card 4111-1111-1111-1111.", "card", "4111-1111-1111-1111"),
        ("378282246310005", "card", "378282246310005"),
        ("http://84.23.10.7:8080/x", "ip", "84.23.10.7"),
        ("at 2001:db8::8a2e:370:7334.", "ip", "2001:db8::8a2e:370:7334"),
        ("AKIAIOSFODNN7EXAMPLE", "key", "AKIAIOSFODNN7EXAMPLE"),
        ('API_KEY = "a81fe02bb9cc41d2a7ff"', "key", "a81fe02bb9cc41d2a7ff"),
        ("a key:\n-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----\n", "key",
         "-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----"),
    ],
)  # fmt: skip
def test_each_kind_is_found_and_nothing_around_it(text: str, kind: str, value: str) -> None:
    assert list_values(text) == [(kind, value)]


@pytest.mark.parametrize(
    "text",
    [
        "version 10.0.19041.1", "127.0.0.1", "255.255.255.0", "section 4.2.1.3", "v1.2.3.4",
        "2024-01-15 10:30:00", "15.01.2024", "05-12-2023", "order 4839201847", "3.14159265358",
        "4111 1111 1111 1112", "DE89 3704 0044 0532 0130 01", "ISBN 978-3-16-148410-0",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709", "12:30:45", "std::chrono::seconds", "a::b",
        "00:1a:2b:3c:4d:5e", "@property", "user@localhost", "100 200 300 4000 500",
        "token = next(tokens)", "550e8400-e29b-41d4-a716-446655440000", "1,234,567.89", "",
        "find . -size +10000000", "821091117+4908374100427", "(27/03/2012 19:32:54)",
    ],
)  # fmt: skip
def test_what_looks_like_personal_data_is_left_alone(text: str) -> None:
    assert list_values(text) == []


def test_recall_and_precision_on_texts_of_known_contents() -> None:
    wanted, found = set(), set()
    for number, (text, values) in enumerate(make_texts(400, seed=11)):
        wanted |= {(number, *value) for value in values}
        found |= {(number, kind, span.start, span.end) for kind, span in find_spans(text)}
    assert len(wanted & found) >= 0.99 * len(wanted)
    assert len(wanted & found) >= 0.95 * len(found)


def test_equal_values_of_a_row_get_one_placeholder_in_every_spelling() -> None:
    row = make_row(
        "I am a@x.org, card 4111 1111 1111 1111.", "A@x.org or b@x.org, 4111111111111111"
    )
    (cleaned,) = clean_rows([row], FIX)
    assert cleaned.row is not None
    assert [turn.content for turn in cleaned.row.messages] == [
        "I am <EMAIL_1>, card <CARD_1>.",
        "<EMAIL_1> or <EMAIL_2>, <CARD_1>",
    ]
    assert [finding.reason for finding in cleaned.findings] == ["email", "card"]


def test_values_in_tool_calls_are_replaced_and_json_stays_json() -> None:
    inner = json.dumps({"to": "a@x.org", "text": "line\nb@x.org"})
    calls = [{"function": {"name": "send", "arguments": inner}}]
    tools = json.dumps([{"name": "send", "description": "as a@x.org"}])
    row = make_row("mail b@x.org", "", json.dumps({"tool_calls": calls}), tools)
    (cleaned,) = clean_rows([row], FIX)
    assert cleaned.row is not None
    (call,) = json.loads(cleaned.row.messages[1].more)["tool_calls"]
    arguments = json.loads(call["function"]["arguments"])
    assert arguments == {"to": "<EMAIL_2>", "text": "line\n<EMAIL_1>"}
    assert json.loads(cleaned.row.tools) == [{"name": "send", "description": "as <EMAIL_2>"}]


def test_placeholders_that_a_row_has_are_not_given_again() -> None:
    (cleaned,) = clean_rows([make_row("<EMAIL_1> wrote to a@x.org")], FIX)
    assert cleaned.row is not None
    assert cleaned.row.messages[0].content == "<EMAIL_1> wrote to <EMAIL_2>"


def test_no_finding_contains_the_value() -> None:
    values = "a@x.org AKIAIOSFODNN7EXAMPLE 4111111111111111 +4930123456789 84.23.10.7"
    (cleaned,) = clean_rows([make_row(values)], CleanSection(pii="warn"))
    assert len(cleaned.findings) == 5
    assert not any(value in repr(cleaned.findings) for value in values.split())


@pytest.mark.parametrize("text", ["::", ":1", "1:", "sk-", "1 ", "a@", "AA00", "-----BEGIN "])
def test_time_is_linear_in_texts_made_to_be_slow(text: str) -> None:
    began = time.process_time()
    find_spans(text * 20_000)
    assert time.process_time() - began < 2
