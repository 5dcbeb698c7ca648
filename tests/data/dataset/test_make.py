"""The dataset that `prepare` makes: same rows as in memory, same bytes whatever happens."""

from __future__ import annotations

import datetime
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from edgetune.data.build_encoder import make_encoder
from edgetune.data.dataset import make, shard_writer
from edgetune.data.dataset.encoding import Encoding
from edgetune.data.dataset.make import make_dataset
from edgetune.data.dataset.settings import Settings
from edgetune.data.dataset.splits import Splits
from edgetune.data.dataset.tables import TokenTable
from edgetune.data.encode_rows import encode_rows
from edgetune.data.load import load_rows
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import DataSection

QUIET = Log(quiet=True)
CLOCK = "2026-01-01T00:00:00"


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def ask(number: int, answer: str = "yes") -> dict[str, Any]:
    words = random.Random(number).choices("abcdefghijklmnopqrstuvwxyz", k=40)
    return {"prompt": f"{number} {''.join(words)}", "completion": answer}


def prepare(section: DataSection, model: Path, folder: Path, **more: Any) -> Splits:
    settings = Settings(section, 0, Encoding(str(model), None, CLOCK))
    return make_dataset(settings, folder / "out", folder / "shards", more.get("log", QUIET))


def hash_folder(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_tokens_are_those_of_rows_in_memory(tiny_model: Path, tmp_path: Path) -> None:
    rows = [ask(n, f"answer {n}") for n in range(300)]
    rows += [{"prompt": "long " * 120, "completion": "x"}]
    section = DataSection(
        train=write_rows(tmp_path / "t.jsonl", rows),
        validation=write_rows(tmp_path / "v.jsonl", [ask(1000), ask(1001)]),
        max_length=100, on_bad_row="skip",
    )  # fmt: skip
    splits = prepare(section, tiny_model, tmp_path)
    encoder = make_encoder(load_tokenizer(tiny_model), section, None, CLOCK)
    loaded = load_rows(Path(str(section.train)), section, QUIET).rows
    wanted = encode_rows(encoder, loaded, QUIET, "train", "skip")
    found = splits.encode("train", encoder, QUIET, "skip")
    assert splits.has_tokens(encoder) and isinstance(found.encoded, TokenTable)
    assert found.encoded == wanted.encoded and list(found.rows) == list(wanted.rows)
    counts = {key: found.facts[key] for key in wanted.facts}
    assert counts == wanted.facts and counts["dropped"] == 1
    some = splits.encode("train", encoder, QUIET, "skip", splits.train.select(np.array([7, 3])))
    assert some.encoded == [wanted.encoded[7], wanted.encoded[3]]
    dropped = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").open()]
    assert [one["where"] for one in dropped] == [f"{section.train}:301"]
    assert dropped[0]["row"]["messages"][0]["content"].startswith("long long")


def test_long_texts_are_pieces(tiny_model: Path, tmp_path: Path) -> None:
    texts = [{"text": " ".join(str(n) for n in range(200))}, {"text": "short"}]
    section = DataSection(
        train=write_rows(tmp_path / "t.jsonl", texts),
        validation=write_rows(tmp_path / "v.jsonl", texts[1:]),
        max_length=50,
    )
    splits = prepare(section, tiny_model, tmp_path)
    encoder = make_encoder(load_tokenizer(tiny_model), section, None, CLOCK)
    found = splits.encode("train", encoder, QUIET, "error")
    wanted = encode_rows(encoder, list(splits.train), QUIET)
    assert found.encoded == wanted.encoded and len(found.encoded) > 5
    assert found.facts["cut_texts"] == {"texts": 1, "pieces": len(found.encoded) - 1}


def test_bytes_do_not_depend_on_processes_or_interruptions(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (make, shard_writer):
        monkeypatch.setattr(module, "SHARD_RECORDS", 64, raising=False)
    monkeypatch.setattr("edgetune.data.dataset.read.SHARD_RECORDS", 64)
    rows = [ask(n % 290, f"answer {n}") for n in range(500)]
    section = DataSection(train=write_rows(tmp_path / "t.jsonl", rows), max_length=100)
    prepare(section, tiny_model, tmp_path / "one")
    whole = hash_folder(tmp_path / "one" / "out")

    real, calls = shard_writer.write_shard, []

    def stop_after_three(folder: Path, *rest: Any) -> None:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(folder)
        real(folder, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(make, "write_shard", stop_after_three)
        with pytest.raises(KeyboardInterrupt):
            prepare(section, tiny_model, tmp_path / "two")
    finished = sorted((tmp_path / "two" / "shards").iterdir())
    assert len(finished) == 3
    times = [folder.stat().st_mtime_ns for folder in finished]
    monkeypatch.setattr(make, "SMALL_BYTES", 0)  # the rest in processes
    prepare(section, tiny_model, tmp_path / "two")
    assert hash_folder(tmp_path / "two" / "out") == whole
    assert [folder.stat().st_mtime_ns for folder in finished] == times  # not made again


def test_the_folder_is_a_dataset_of_the_hub_s_library(tiny_model: Path, tmp_path: Path) -> None:
    section = DataSection(train=write_rows(tmp_path / "t.jsonl", [ask(n) for n in range(40)]))
    splits = prepare(section, tiny_model, tmp_path)
    loaded = datasets.load_from_disk(str(tmp_path / "out"))
    assert set(loaded) == {"train", "validation"}
    assert loaded["train"].num_rows == len(splits.train) == 38
    assert loaded["train"][0]["messages"][0]["content"] == splits.train[0].messages[0].content
    tokens = datasets.load_from_disk(str(tmp_path / "out" / "tokens" / "train"))
    assert set(tokens.column_names) == {"input_ids", "completion_mask", "truncated", "row"}


def test_a_bad_row_with_a_date_reaches_a_process(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "SMALL_BYTES", 0)
    day = datetime.date(2026, 1, 2)
    rows = [{**ask(n), "day": day} for n in range(30)] + [{**ask(31), "prompt": "", "day": day}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    section = DataSection(train=str(tmp_path / "t.parquet"), on_bad_row="skip", max_length=100)
    splits = prepare(section, tiny_model, tmp_path)
    assert splits.facts["skipped"] == {"train": 1}
    (line,) = (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()
    assert json.loads(line)["row"]["day"] == "2026-01-02"


def test_an_error_in_a_process_is_told(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "SMALL_BYTES", 0)
    (tmp_path / "config").mkdir()
    section = DataSection(train=write_rows(tmp_path / "t.jsonl", [ask(n) for n in range(40)]))
    settings = Settings(section, 0, Encoding(str(tmp_path / "config"), None, CLOCK))
    with pytest.raises((InputError, RuntimeError), match="tokenizer"):
        make_dataset(settings, tmp_path / "out", tmp_path / "shards", QUIET)
