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
        ("a.json", b"[1,", "not JSON"),
        ("a.jsonl.gz", b"no gzip at all", "cannot read"),
        # Without a time: ids of tests are the same in all processes that collect them.
        ("a.jsonl.gz", gzip.compress(b"x" * 999, mtime=0)[:-9], "cannot read"),
        ("a.parquet", b"no parquet", "not Parquet"),
        ("a.odt", b"x", "unknown ending"),
        ("a.csv", b'prompt,completion\n"a,b\n', "not CSV"),
    ],
)
def test_unreadable_file(tmp_path: Path, name: str, content: bytes, fault: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=fault) as raised:
        list(read_records(path))
    assert str(path) in raised.value.where


def test_folder_without_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no data files"):
        list(read_records(tmp_path))


def values(path: Path, split: str = "train") -> list[object]:
    return [record.value for record in read_records(path, split)]


LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lines.json", LINES),
        ("crlf.json", LINES.replace("\n", "\r\n")),
        ("blank.json", "\n\n" + LINES),
        ("array.jsonl", json.dumps(ROWS, indent=1)),
        ("flat.jsonl", json.dumps(ROWS, indent=0)),
        ("oneline.jsonl", json.dumps(ROWS)),
        ("minified.ndjson", json.dumps(ROWS, separators=(",", ":"))),
        ("wrapped.json", json.dumps({"data": ROWS})),
        ("wrapped.jsonl", json.dumps({"version": "1", "rows": ROWS}, indent=2)),
        ("split.json", json.dumps({"train": ROWS})),
        ("bom.json", "\ufeff" + json.dumps(ROWS)),
        ("bom.jsonl", "\ufeff" + LINES),
        ("pretty.jsonl", "\n".join(json.dumps(row, indent=2) for row in ROWS)),
        ("UPPER.JSONL", LINES),
    ],
)
def test_json_as_it_comes(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8", newline="")
    assert values(path) == ROWS
    packed = tmp_path / (name + ".GZ")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert values(packed) == ROWS
    packed.rename(tmp_path / "zipped.jsonl")  # gzip is known by its first bytes
    assert values(tmp_path / "zipped.jsonl") == ROWS


def test_one_object_is_one_row(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    turns = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    path.write_text(json.dumps(turns))
    assert values(path) == [turns]


def test_values_longer_than_the_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetune.data.json_rows._CHUNK", 7)
    rows = [{"text": "x" * n, "n": 10**n, "deep": [[{"]": '\\"['}]]} for n in range(1, 40)]
    path = tmp_path / "a.json"
    for content in (rows, {"about": {"a": [1, 2.5e3, None]}, "data": rows, "more": "z" * 50}):
        for indent in (None, 1):
            path.write_text(json.dumps(content, indent=indent))
            assert values(path) == rows


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_json_that_nests_too_deeply_is_one_bad_row(tmp_path: Path, name: str, number: int) -> None:
    path = tmp_path / name
    rows = [json.dumps({"text": "a ]"}), json.dumps({"text": 'b "['})]
    rows.insert(number, '{"text": "t", "x": ' + "[" * 100_000 + "]" * 100_000 + "}")
    path.write_text("[" + ",\n".join(rows) + "]" if name == "a.json" else "\n".join(rows) + "\n")
    found = list(read_records(path))
    assert [record.value is None for record in found] == [at == number for at in range(3)]
    assert "too deeply" in found[number].fault


@pytest.mark.parametrize(
    "value",
    [{"text": "half \ud83d"}, {"text": "a", "x": [{"\ude00": 1}]}, {"x": {"y": ["\udfff"]}}],
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_half_a_character_is_one_bad_row(tmp_path: Path, name: str, value: object) -> None:
    path = tmp_path / name
    whole = {"text": "\U0001f600 \\ud83d"}
    rows = [whole, value, whole]
    lines = "\n".join(json.dumps(row) for row in rows)
    path.write_text(json.dumps(rows) if name == "a.json" else lines)
    found = list(read_records(path))
    assert [record.value for record in found] == [whole, None, whole]
    assert "surrogate" in found[1].fault


CLINC = {
    "val": [["is it cold", "weather"]],
    "oos_train": [["who won", "oos"]],
    "train": [["play jazz", "music"], ["rain today?", "weather"]],
    "test": [["louder", "music"]],
}


def test_keys_are_splits_and_pairs_are_rows(tmp_path: Path) -> None:
    path = tmp_path / "data_full.json"
    path.write_text(json.dumps(CLINC, indent=1))
    assert values(path, "validation") == [{"text": "is it cold", "label": "weather"}]
    assert values(path)[1] == {"text": "rain today?", "label": "weather"}
    assert next(iter(read_records(path, "test"))).where == f"{path}[test]: item 1"
    path.write_text(json.dumps({"dev": CLINC["val"], "test": CLINC["test"]}))
    with pytest.raises(InputError, match=r"no split 'train' \(it has dev, test\)"):
        values(path)
    lines = tmp_path / "pairs.jsonl"
    lines.write_text("\n".join(map(json.dumps, CLINC["train"])))
    assert values(lines)[0] == {"text": "play jazz", "label": "music"}


def test_numbers_of_labels_become_their_names(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    rows = [{"text": "a", "label": 1}, {"text": "b", "label": 0}]
    named = [{"text": "a", "label": "no"}, {"text": "b", "label": "yes"}]
    path = tmp_path / "a.json"
    for content in (
        {"names": ["yes", "no"], "data": rows},
        {"train": rows, "names": ["yes", "no"]},
    ):
        path.write_text(json.dumps(content))
        assert values(path) == named
    features = Features({"text": Value("string"), "label": ClassLabel(names=["yes", "no"])})
    data = Dataset.from_list([*rows, {"text": "c", "label": -1}], features=features)
    data.save_to_disk(str(tmp_path / "saved"))
    data.to_parquet(tmp_path / "a.parquet")
    for source in (tmp_path / "saved", tmp_path / "a.parquet"):
        assert values(source) == [*named, {"text": "c", "label": None}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "p;q\n1,5;x\n2,5;y\n"),
        ("a.csv", 'p\tq\n"1,5"\tx\n"2,5"\ty\n'),
        ("a.CSV", "p|q\r\n1,5|x\r\n2,5|y\r\n"),
        ("a.tsv", "p\tq\n1,5\tx\n2,5\ty\n"),
        ("a.csv", "sep=;\np;q\n1,5;x\n2,5;y\n"),
        ("a.csv", 'p,q\n"1,5",x\n"2,5",y\n'),
        ("a.csv", "\ufeffp;q\n1,5;x\n2,5;y\n"),
    ],
)
def test_separators(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8", newline="")
    assert values(path) == [{"p": "1,5", "q": "x"}, {"p": "2,5", "q": "y"}]
    path.write_text(content.lstrip("\ufeff"), encoding="utf-16", newline="")
    assert values(path) == [{"p": "1,5", "q": "x"}, {"p": "2,5", "q": "y"}]


def test_commas_and_semicolons_in_texts_separate_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,completion\na;b;c,d;e\nf,g\n")
    assert values(path)[0] == {"prompt": "a;b;c", "completion": "d;e"}
    path.write_text("text\none; two\n")
    assert values(path) == [{"text": "one; two"}]
    path.write_text("a,a\n1,2\n")
    with pytest.raises(InputError, match="'a' is there twice"):
        values(path)


def test_a_gzip_file_that_unpacks_to_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgetune.data.records.PACKED_FREE_BYTES", 2 << 20)
    for name in ("a.jsonl.gz", "a.csv.gz", "a.txt.gz", "a.json.gz"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(b" " * (8 << 20)))
        with pytest.raises(InputError, match="unpacks to more than 2 MB") as raised:
            values(path)
        assert "gunzip" in raised.value.hint
    # Rows that repeat pack well too, but not so well.
    lines = (json.dumps({"text": f"row {n * n} of the same words"}) + "\n" for n in range(80_000))
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress("".join(lines).encode()))
    assert sum(1 for _ in read_records(path)) == 80_000


def test_memory_is_that_of_a_row(tmp_path: Path) -> None:
    import tracemalloc

    row = json.dumps({"prompt": "x" * 900, "completion": "y"})
    for name, content in (
        ("a.jsonl", (row + "\n") * 20_000),
        ("a.json", "[" + ",".join([row] * 20_000) + "]"),
        ("b.json", '{"train": [' + ",".join([row] * 20_000) + "]}"),
        ("a.csv", "prompt,completion\n" + ("x" * 900 + ",y\n") * 20_000),
        ("a.txt", ("x" * 900 + "\n\n") * 20_000),
    ):
        path = tmp_path / name
        path.write_text(content)
        tracemalloc.start()
        assert sum(1 for _ in read_records(path)) == 20_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 << 20, f"{name}: {peak:,}"
