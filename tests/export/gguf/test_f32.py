"""GGUF files: the converter's tensors, our vocabulary and header; equal to others' conversions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, TokenType

from edgetune.compare.probes import TEXTS as PROBES
from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf
from edgetune.export.gguf.header import header_of
from edgetune.export.gguf.vocab import GPT2_REGEX, fit_name, name_pre_tokenizer, read_sentencepiece
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.runtimes import open_runtime
from edgetune.runtimes.gguf_header import open_gguf

HEADER = GgufHeader("tiny", end_id=0, other_end_id=2, add_bos=False, extra={"edgetune.x": "y"})


@pytest.fixture(scope="module")
def file(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "F32.gguf"
    convert_gguf(tiny_model, path, HEADER)
    return path


def test_tokenizes_as_the_model_does(file: Path, tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    runtime = open_runtime(file, threads=1)
    specials = "a<|im_start|>user\n b<|im_end|>\n<|endoftext|>"
    for text in (*PROBES, specials):
        assert runtime.tokenize(text) == tokenizer(text, add_special_tokens=False)["input_ids"]
    runtime.close()


def test_logits_equal_those_of_the_model(file: Path, tiny_model: Path) -> None:
    ids = list(range(3, 90))
    logits = []
    for path in (file, tiny_model):
        runtime = open_runtime(path, threads=1)
        logits.append(runtime.logits(ids))
        runtime.close()
    np.testing.assert_allclose(*logits, atol=1e-4)


def test_metadata_equals_the_header(file: Path, tiny_model: Path) -> None:
    fields = {key: entry.contents() for key, entry in GGUFReader(file).fields.items()}
    assert fields["general.name"] == "tiny"
    assert fields["general.file_type"] == 0
    assert fields["tokenizer.ggml.pre"] == "gpt-2"
    assert fields["tokenizer.ggml.eos_token_id"] == 0  # the tokenizer's own is 2
    assert fields["tokenizer.ggml.eot_token_id"] == 2
    assert fields["tokenizer.ggml.add_bos_token"] is False
    assert fields["tokenizer.chat_template"] == (tiny_model / "chat_template.jinja").read_text()
    assert fields["edgetune.x"] == "y"


def test_is_silent(tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    convert_gguf(tiny_model, tmp_path / "F32.gguf", HEADER)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ({"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}, "gpt-2"),
        ({"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}, None),
        ({"type": "Whitespace"}, None),
        (None, None),
    ],
)
def test_knows_plain_byte_level_bpe(steps: dict[str, object] | None, name: str | None) -> None:
    tokenizer = {"model": {"type": "BPE"}, "pre_tokenizer": steps}
    assert name_pre_tokenizer(tokenizer) == name
    assert GPT2_REGEX.startswith("'s|'t")


def test_scores_follow_the_merges(tmp_path: Path) -> None:
    pieces = ["<unk>", "<s>", "<0x41>", "a", "b", "ab", "▁", "▁ab"]
    tokenizer = {
        "model": {
            "type": "BPE",
            "byte_fallback": True,
            "unk_token": "<unk>",
            "vocab": {piece: index for index, piece in enumerate(pieces)},
            "merges": [["a", "b"], ["▁", "ab"], "▁a b"],
        },
        "normalizer": {"type": "Prepend", "prepend": "▁"},
        "added_tokens": [
            {"id": 0, "content": "<unk>", "special": True},
            {"id": 1, "content": "<s>", "special": True},
            {"id": 8, "content": "▁hi", "special": False},
        ],
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    read = read_sentencepiece(tmp_path, 10)
    kinds = [TokenType(kind).name for kind in read.types]
    assert read.scores[5] == 0.0
    assert read.scores[7] == -1.0
    assert kinds[:4] == ["UNKNOWN", "CONTROL", "BYTE", "NORMAL"]
    assert (read.tokens[8], kinds[8]) == (b" hi", "USER_DEFINED")
    assert (read.tokens[9], kinds[9]) == (b"[PAD9]", "UNUSED")
    assert read.space_prefix


@pytest.mark.assets
def test_stories260k_equals_an_independent_conversion(assets: Path, tmp_path: Path) -> None:
    model = assets / "models/stories260K"
    convert_gguf(model, tmp_path / "F32.gguf", GgufHeader("stories260K"))
    own = {tensor.name: tensor.data for tensor in GGUFReader(tmp_path / "F32.gguf").tensors}
    golden = {tensor.name: tensor.data for tensor in GGUFReader(model / "golden.gguf").tensors}
    assert np.array_equal(golden.pop("output.weight"), own["token_embd.weight"])
    assert own.keys() == golden.keys()
    assert all(np.array_equal(own[name], golden[name]) for name in golden)


@pytest.mark.assets
def test_stories260k_tokenizes_every_story_alike(assets: Path, tmp_path: Path) -> None:
    model = assets / "models/stories260K"
    convert_gguf(model, tmp_path / "F32.gguf", GgufHeader("stories260K"))
    tokenizer = load_tokenizer(model)
    runtime = open_runtime(tmp_path / "F32.gguf", threads=1)
    text = (assets / "data/tinystories/tinystories_val_sample.txt").read_text(encoding="utf-8")
    stories = [*text.split("<|endoftext|>"), *PROBES]
    assert len(stories) > 1900
    differ = [
        story
        for story in stories
        if runtime.tokenize(story) != tokenizer(story, add_special_tokens=False)["input_ids"]
    ]
    runtime.close()
    assert differ == []


@pytest.mark.parametrize(
    ("name", "of_phi", "said"),
    [
        ("notes", False, "notes"),
        ("my-phi3-notes", False, "my-phi 3-notes"),
        ("Phi-3-mini", False, "Phi 3-mini"),
        ("notes", True, "notes (Phi-3)"),
        ("my-phi3-notes", True, "my-phi3-notes"),
    ],
)
def test_the_name_does_not_make_another_tokenizer(name: str, of_phi: bool, said: str) -> None:
    added = [{"content": "</s>", "rstrip": of_phi}, {"content": "<|endoftext|>"}]
    assert fit_name(name, {"added_tokens": added, "model": {"vocab": {}}}) == said


@pytest.mark.parametrize(
    ("generation", "temperature"),
    [
        ({}, 0.0),
        ({"do_sample": False, "temperature": 0.7}, 0.0),
        ({"do_sample": True, "temperature": 0.75}, 0.75),  # as its author wants it
        (None, 0.0),
    ],
)
def test_a_file_says_how_its_answers_are_meant(
    generation: dict[str, object] | None, temperature: float, tiny_model: Path, tmp_path: Path
) -> None:
    """llama.cpp's tools sample at 0.8 unless the file says otherwise."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    path = folder / "generation_config.json"
    path.unlink()
    if generation is not None:
        path.write_text(json.dumps(generation))
    convert_gguf(folder, tmp_path / "a.gguf", header_of(folder, "a"))
    keys = open_gguf(tmp_path / "a.gguf").keys
    assert keys["general.sampling.temp"] == pytest.approx(temperature)
    assert "tokenizer.ggml.bos_token_id" not in keys  # no contract says what prompts begin with


@pytest.mark.parametrize(
    ("template", "golden", "begin"),
    [
        ("{{ messages }}", [[5, 9], [5, 7]], 5),
        ("{{ messages }}", [[5, 9], [6, 7]], 2),  # no one beginning: the end token
        ("{{ bos_token }}{{ messages }}", [[5, 9]], None),  # would be written into every prompt
    ],
)
def test_a_model_without_bos_names_one_that_nothing_adds(
    template: str, golden: list[list[int]], begin: int | None, tiny_model: Path, tmp_path: Path
) -> None:
    """transformers 4 opens no GGUF file without a BOS token."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (folder / "chat_template.jinja").write_text(template)
    contract = {
        "schema": 1, "chat_template_sha256": "-", "end_id": 2, "stop_ids": [2],
        "golden": [{"ids": ids} for ids in golden],
    }  # fmt: skip
    (folder / "contract.json").write_text(json.dumps(contract))
    convert_gguf(folder, tmp_path / "a.gguf", header_of(folder, "a"))
    keys = open_gguf(tmp_path / "a.gguf").keys
    assert keys.get("tokenizer.ggml.bos_token_id") == begin
    assert keys["tokenizer.ggml.add_bos_token"] is False
