"""Probe texts of a comparison: texts that tokenizers disagree on, conversations, plain prose."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

TEXTS = (
    "",
    "Hello world",
    " leading and trailing ",
    "a  b   c    d\t\te\n\n\nf \n g\r\nh",
    "1 22 333 4444 55555 3.14159 1,000,000 0x1F 2026-11-20",
    "it's I'm you'LL we've he'd 'tis O'Neil",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇨🇭 ☕",
    "東京都に住んでいます。 你好，世界！ 안녕하세요",
    "שלום עולם مرحبا بالعالم ١٢٣",
    "naïve café Zoë Ångström ﬁ ½ ²",
    "e\u0301 n\u0303 a\u0308\u0323 \u1100\u1161",
    "def f(x):\n    return {'a': [1, 2], \"b\": x ** 2}  # done\n",
    '{"call": "light.set", "room": "kitchen", "level": 40}',
    "<not_a_token> <|also_not|> </p> [INST] <<SYS>>",
    "\x01\x02\x7f\u200b\u200d\ufeff\u00ad\u2028",
    "ΑΒΓ абв ĐđŁł İı ǅ",
    "word" * 60 + " " + "x" * 300,
    "The quick brown fox jumps over the lazy dog. " * 30,
)

_WEATHER = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}

CONVERSATIONS: tuple[list[dict[str, Any]], ...] = (
    [{"role": "user", "content": "Hello, what can you do?"}],
    [{"role": "user", "content": "  naïve café — 12 €\n\n東京 🙂\tend  "}],
    [
        {"role": "system", "content": "Answer in one line."},
        {"role": "user", "content": "First question"},
    ],
    [
        {"role": "user", "content": "First question"},
        {"role": "assistant", "content": "First answer."},
        {"role": "user", "content": "And then?"},
    ],
    [
        {"role": "user", "content": "Is it raining in Bern?"},
        {"role": "assistant", "content": "", "tool_calls": [_WEATHER]},
        {"role": "tool", "name": "weather", "content": '{"rain": true}'},
    ],
)

#: TokenizedText when the user gives no data: prose, instructions, code, numbers.
PROSE = (
    "The ferry left at seven, before the fog had lifted from the river. On deck a woman counted "
    "her bags twice, found one too many, and laughed at herself until the whistle blew.",
    "To change a bicycle tube, take the wheel out, press the last of the air from the tyre and "
    "lift one side of it over the rim. Pull the old tube out and run a thumb along the inside: "
    "whatever made the hole may still be there.",
    "def mean(values):\n    total = 0.0\n    for value in values:\n        total += value\n"
    "    return total / len(values)\n",
    "In 1903 the town had 4,210 people, three mills and one telephone. By 1911 there were 6,875 "
    "people, five mills, and 212 telephones, most of which did not work in the rain.",
    "Dear Ms Okafor, thank you for your letter of the ninth. We have looked at both invoices and "
    "agree that the second was sent by mistake; please disregard it.",
    "Once there was a fox who was afraid of the dark. Every evening it ran home before the sun "
    "touched the hills, and every evening the owl asked it what it thought it had missed.",
    '{"name": "sensor-12", "room": "attic", "readings": [18.5, 18.7, 19.1], "ok": true}',
    "Water expands when it freezes because its molecules settle into an open lattice. That is why "
    "ice floats, why pipes burst, and why lakes freeze from the top.",
)


def fit_texts(
    texts: Iterable[str], tokenizer: dict[str, Any], specials: Sequence[str]
) -> tuple[list[str], int]:
    """Return the texts that llama.cpp can be held to, and how many were left out.

    llama.cpp does not normalize: where ``tokenizer`` (the content of ``tokenizer.json``) does, to
    NFC, text that it would change is left out. Nor does it tell the start of the text from that of
    a stretch after a special token: where the tokenizer does, every text begins with one, as
    prompts do.
    """
    texts = list(texts)
    kept = texts
    if "NFC" in str(tokenizer.get("normalizer")):
        kept = [text for text in texts if unicodedata.normalize("NFC", text) == text]
    splits = str(tokenizer.get("pre_tokenizer"))
    if "'prepend_scheme': 'first'" in splits and specials:
        kept = [specials[0] + text for text in kept]
    return kept, len(texts) - len(kept)
