"""Encoding: mojibake is repaired, and what writers mean is left as it is."""

from __future__ import annotations

import json

import pytest

from edgetune.data.clean import clean_rows
from edgetune.data.clean.encoding import fix_text
from edgetune.recipe import CleanSection
from tests.data.clean.rows import make_row


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("Il mâ€™a dit oui", "Il m’a dit oui"),
        ("MÃ¼nchen und KÃ¶ln", "München und Köln"),
        ("schÃƒÂ¶n", "schön"),
        ("a\x00b\x07c\ufeff", "abc"),
        ("cafe\u0301", "café"),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af", "한글"),
    ],
)
def test_wrong_encoding_is_repaired(text: str, fixed: str) -> None:
    assert fix_text(text) == fixed


@pytest.mark.parametrize(
    "text",
    [
        "def f(x: list[int]) -> str:\r\n\treturn f'{x!r}' if x else \"&amp;\" // <b>",
        "\x1b[31mred\x1b[0m", "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β ⇔ Ω, x² ≤ √2, 5 µm, 3 Å",
        "👩‍👩‍👧‍👦 👍🏽 🇩🇪 ❤️ 1️⃣", "今日は、天気がいい。ＡＢＣ１２３（笑）",
        "你好，世界！《红楼梦》", "안녕하세요",
        "神社の\ufa19 \uf9dc", "“curly” ‘quotes’ — and ﬁne ligatures… naïve façade", "Größe: 10 €",
        "हिन्दी में लिखा", "שלום עולם", "Привет, как дела?", "Xin chào, tôi là người Việt",
    ],
)  # fmt: skip
def test_code_mathematics_emoji_and_other_scripts_are_left_alone(text: str) -> None:
    assert fix_text(text) == text
    row = make_row(text, text)
    (cleaned,) = clean_rows([row], CleanSection(pii="off"))
    assert cleaned.row is row and cleaned.findings == ()


def test_strings_in_json_are_repaired() -> None:
    row = make_row("a", "b", json.dumps({"reasoning_content": "x\u0000y mâ€™a"}))
    (cleaned,) = clean_rows([row], CleanSection())
    assert cleaned.row is not None
    assert json.loads(cleaned.row.messages[1].more) == {"reasoning_content": "xy m’a"}
    assert [finding.reason for finding in cleaned.findings] == ["wrong encoding"]
