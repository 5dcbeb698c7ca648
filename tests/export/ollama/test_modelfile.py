"""Modelfiles: a proven template or none, and values that Ollama's parser gives back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from edgetune.data.contract import make_golden
from edgetune.data.encode import Encoder
from edgetune.export.ollama.go_template import GoTemplate
from edgetune.export.ollama.modelfile import (
    PromptFormat,
    derive_prompt_format,
    quote_value,
    read_value,
    write_modelfile,
)
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.runtimes import open_runtime
from tests.model_files import make_gguf

# A text, and whether a Modelfile can hold it.
TEXTS = [
    ("plain words", True),
    ('say "yes"', True),
    ("two\nlines", True),
    ('"quoted"\nand "more"', True),
    ('ends in "', True),
    ('"', True),
    ('"""', True),
    ('three """ inside', True),
    ('a line that ends in """\nand one more', False),
    ('both "\nand """\n.', False),
    ("  outer space  \n", True),
    ("\ttab\rreturn", True),
    ("", True),
    ("zero\u200dwidth", False),
    ("no\u00a0break", False),
    ("bell\x07", False),
    ("# no comment\nFROM evil\nPARAMETER stop x", True),
    ("naïve 東京 🙂", True),
]


@pytest.mark.parametrize(("text", "fits"), TEXTS)
def test_values_are_read_back(text: str, fits: bool) -> None:
    value = quote_value(text)
    assert (value is not None) == fits
    if value is not None:
        assert read_value(value + "\n") == text


def test_reads_as_ollama_does() -> None:
    assert read_value("bare words \n") == "bare words"
    assert read_value('"a" b"\n') == 'a" b'
    assert read_value('"one"\ntwo"\n') is None  # ends on the first line
    assert read_value('"""open\n') is None


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> Encoder:
    tokenizer = load_tokenizer(tiny_model)
    return Encoder(tokenizer, tokenizer.eos_token_id, 512, None, (tokenizer.eos_token_id,))


@pytest.fixture(scope="module")
def golden(encoder: Encoder) -> list[dict[str, Any]]:
    return make_golden(encoder, [])


def test_a_template_is_proven_in_the_files_runtime(
    tiny_model: Path, encoder: Encoder, golden: list[dict[str, Any]], tmp_path: Path
) -> None:
    runtime: Any = open_runtime(make_gguf(tiny_model), threads=1)
    prompt_format = derive_prompt_format(encoder, golden, runtime)
    assert prompt_format.template is not None and prompt_format.proofs == 3
    assert prompt_format.stops == ("<|im_end|>",)
    # One golden conversation of other ids, or of another text, and nothing is proven.
    for changed in ({"ids": [5]}, {"text": "another"}):
        others = [*golden[1:], golden[0] | changed]
        assert derive_prompt_format(encoder, others, runtime).template is None
    assert derive_prompt_format(encoder, [], runtime).template is None
    runtime.close()

    page = write_modelfile(tmp_path / "tiny-Q4_0.gguf", prompt_format)
    assert page.name == "tiny-Q4_0.Modelfile"
    lines = page.read_text().splitlines()
    assert lines[1] == "FROM ./tiny-Q4_0.gguf"
    assert any(line.startswith('TEMPLATE "') for line in lines)
    assert 'PARAMETER stop "<|im_end|>"' in lines
    assert not any(line.startswith("SYSTEM") for line in lines)


class Adding:
    """A client that puts the begin token before a text, as SentencePiece files ask for."""

    def __init__(self, encoder: Encoder) -> None:
        self.tokenizer: Any = encoder.tokenizer

    def tokenize_prompt(self, text: str) -> list[int]:
        begin = [self.tokenizer.bos_token_id]
        return begin + list(self.tokenizer(text, add_special_tokens=False).input_ids)


def test_a_begin_token_is_written_once(tiny_model: Path) -> None:
    tokenizer: Any = load_tokenizer(tiny_model)
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.chat_template = "<|endoftext|>" + tokenizer.chat_template
    encoder = Encoder(tokenizer, tokenizer.eos_token_id, 512, None, (tokenizer.eos_token_id,))
    golden = make_golden(encoder, [])
    assert golden[0]["text"].startswith("<|endoftext|><|im_start|>")
    prompt_format = derive_prompt_format(encoder, golden, Adding(encoder))
    assert prompt_format.template is not None and prompt_format.template.begin == ""


def test_values_that_a_modelfile_cannot_hold_are_left_out_with_a_note(tmp_path: Path) -> None:
    prompt_format = PromptFormat(None, 0, 'no """\nway', ("ok", "bell\x07"))
    text = write_modelfile(tmp_path / "a.gguf", prompt_format).read_text()
    assert "# No TEMPLATE" in text and "\nTEMPLATE" not in text
    assert "# No SYSTEM" in text and "\nSYSTEM" not in text
    assert 'PARAMETER stop "ok"' in text and "bell" not in text
    template = GoTemplate("", "", {"user": ("", "\n")}, "")
    system = 'Answer "shortly".\nThanks'
    other = dataclasses.replace(prompt_format, template=template, system=system)
    text = write_modelfile(tmp_path / "a.gguf", other).read_text()
    assert '\nSYSTEM """Answer "shortly".\nThanks"""\n' in text
