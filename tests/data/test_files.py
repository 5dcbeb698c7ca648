"""Every file kind gives the same records, and says where a faulty one is."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetune.data.files import read_records
from edgetune.errors import InputError

ROWS = [{"prompt": "eins, “zwei”", "completion": "1\u20282"}, {"prompt": "b", "completion": "2"}]


def write_jsonl(path: Path) -> None:
    lines = (json.dumps(row, ensure_ascii=False) for row in ROWS)
    path.write_text("\n".join(lines), encoding="utf-8")


def write_json(path: Path) -> None:
    path.write_text(json.dumps(ROWS), encoding="utf-8")


def write_csv(path: Path) -> None:
    quoted = "".join(f'"{row["prompt"]}","{row["completion"]}"\r\n' for row in ROWS)
    path.write_text("prompt,completion\r\n" + quoted, encoding="utf-8-sig", newline="")


def write_parquet(path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.jsonl", write_jsonl),
        ("a.json", write_json),
        ("a.csv", write_csv),
        ("a.parquet", write_parquet),
    ],
)
def test_kinds_agree(
    tmp_path: Path, name: str, write: Callable[[Path], None], zipped: bool
) -> None:
    path = tmp_path / name
    write(path)
    if zipped:
        path = tmp_path / (name + ".gz")
        path.write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    assert [record.value for record in read_records(path)] == ROWS


def test_saved_dataset(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    one = Dataset.from_list(ROWS)
    DatasetDict({"train": one, "test": one.select([1])}).save_to_disk(str(tmp_path / "both"))
    one.save_to_disk(str(tmp_path / "one"))
    assert [r.value for r in read_records(tmp_path / "one")] == ROWS
    assert [r.value for r in read_records(tmp_path / "both", "test")] == ROWS[1:]
    with pytest.raises(InputError, match="no split 'validation'"):
        list(read_records(tmp_path / "both", "validation"))


def test_text_is_cut_at_separators(tmp_path: Path) -> None:
    path = tmp_path / "stories.txt"
    path.write_text("one\n\nstill one\n<|endoftext|>\n\ntwo\n", encoding="utf-8")
    found = [(r.where, r.value) for r in read_records(path)]
    assert found == [
        (f"{path}:1", {"text": "one\n\nstill one"}),
        (f"{path}:6", {"text": "two"}),
    ]
    path.write_text("one\nmore\n \n\ntwo\n", encoding="utf-8")
    found = [(r.where, r.value) for r in read_records(path)]
    assert found == [(f"{path}:1", {"text": "one\nmore"}), (f"{path}:5", {"text": "two"})]


@pytest.mark.parametrize(
    ("name", "content", "where", "fault"),
    [
        ("a.jsonl", '{"text": "a"}\n\n{"text": \n', ":3", "not JSON"),
        ("a.jsonl", '{"text": "a"}\n[1]\n', ":2", "not list"),
        ("a.csv", "prompt,completion\na,b\nc\n", ":3", "1 fields where the header has 2"),
        ("a.csv", "prompt,completion\na,b,c\n", ":2", "3 fields where the header has 2"),
    ],
)
def test_faulty_record_is_placed(
    tmp_path: Path, name: str, content: str, where: str, fault: str
) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    faulty = [record for record in read_records(path) if record.value is None]
    assert [record.where for record in faulty] == [f"{path}{where}"]
    assert fault in faulty[0].fault


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.jsonl", b"", "empty"),
        ("a.jsonl", b'{"text": "\xff"}', "not UTF-8"),
        ("a.json", b'{"text": "a"}', "not a list"),
        ("a.json", b"[1,", "not JSON"),
        ("a.jsonl.gz", b"no gzip at all", "cannot read"),
        ("a.jsonl.gz", gzip.compress(b"x" * 999)[:-9], "cannot read"),
        ("a.parquet", b"no parquet", "not Parquet"),
        ("a.docx", b"x", "unknown ending"),
        ("a.csv", b'prompt,completion\n"a,b\n', "not CSV"),
    ],
)
def test_unreadable_file(tmp_path: Path, name: str, content: bytes, fault: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=fault) as raised:
        list(read_records(path))
    assert str(path) in raised.value.where


def test_folder_that_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a dataset"):
        list(read_records(tmp_path))
