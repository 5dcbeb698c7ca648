"""Chunks have at most so many tokens, lose no text, and say where they are from."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from edgetune.data.documents.chunks import chunk_records, split_passages
from edgetune.data.records import Record
from edgetune.embedded import locate
from edgetune.recipe import ChunkSection

PROSE = " ".join(f"Sentence number {n} says what lamp {n % 7} does." for n in range(300))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(locate("base"))


def chunk(tokenizer: Any, text: str, tokens: int = 64, overlap: int = 0) -> list[Record]:
    section = ChunkSection(tokens=tokens, overlap=overlap)
    return list(chunk_records([Record("a.md", {"text": text, "x": 1})], tokenizer, section))


def count(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False).input_ids)


def texts(records: list[Record]) -> list[str]:
    return [str(record.value["text"]) for record in records if record.value]


@pytest.mark.parametrize("tokens", [16, 64, 200])
def test_no_chunk_is_longer_and_no_word_is_lost(tokenizer: Any, tokens: int) -> None:
    found = texts(chunk(tokenizer, f"# Lamps\n\n{PROSE}\n\n## Short\n\nThe end.", tokens))
    assert max(count(tokenizer, text) for text in found) <= tokens
    assert " ".join(found).split() == f"# Lamps {PROSE} ## Short The end.".split()


def test_chunks_end_at_sentences_and_overlap(tokenizer: Any) -> None:
    found = texts(chunk(tokenizer, PROSE, 64, 20))
    assert all(text.startswith("Sentence") and text.endswith(".") for text in found)
    for one, other in pairwise(found):
        assert one.rsplit("Sentence", 1)[1].strip() in other
    assert max(count(tokenizer, text) for text in found) <= 64


def test_short_passages_share_a_chunk_and_keep_their_headings(tokenizer: Any) -> None:
    text = "\n\n".join(f"## Part {n}\n\nLamp {n} shines." for n in range(8))
    found = chunk(tokenizer, f"# All\n\n{text}\n\n## Long\n\n{PROSE[:600]}", 64)
    assert found[0].where == "a.md § All" and found[0].value
    assert found[0].value["heading"] == "All" and found[0].value["x"] == 1
    assert {record.value and record.value["document"] for record in found} == {"a.md"}
    assert "## Part 1" in texts(found)[0] and len(found) < 12
    assert found[-1].where.startswith("a.md § All > Long, chunk ")


def test_pages_are_named(tokenizer: Any) -> None:
    found = chunk(tokenizer, f"First page.\f\f{PROSE[:700]}", 64)
    assert [record.where for record in found][:3] == [
        "a.md, page 1", "a.md, page 3, chunk 1", "a.md, page 3, chunk 2",
    ]  # fmt: skip
    assert not any("\f" in text for text in texts(found))


def test_a_heading_in_code_is_none() -> None:
    text = "# A\n\n```sh\n# a comment\n```\n\n## B ##\nb\n\n# C\nc"
    found = split_passages(text)
    assert [passage.headings for passage in found] == [("A",), ("A", "B"), ("C",)]
    assert "# a comment" in found[0].text


def test_records_without_a_text_stay_as_they_are(tokenizer: Any) -> None:
    records = [Record("a", None, "broken"), Record("b", {"prompt": "q"})]
    assert list(chunk_records(records, tokenizer, ChunkSection())) == records


def test_the_overlap_is_less_than_a_chunk() -> None:
    with pytest.raises(ValueError, match="overlap 64 is no less than tokens 64"):
        ChunkSection(tokens=64, overlap=64)


def test_a_text_file_is_one_document_where_texts_are_chunked(tmp_path: Path) -> None:
    from edgetune.data.files import read_records
    from edgetune.data.sources import open_source

    path = tmp_path / "a.txt"
    path.write_text("one\n\ntwo\n")
    whole = read_records(open_source(str(path), "train", chunked=True))
    assert [record.value for record in whole] == [{"text": "one\n\ntwo"}]
    assert len(list(read_records(path))) == 2
