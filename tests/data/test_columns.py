"""Columns that training does not read are found again by the rows' places."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgetune.data.columns import read_columns
from edgetune.data.dataset.make import load_splits
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.recipe import DataSection


@pytest.fixture
def section(tmp_path: Path) -> DataSection:
    path = tmp_path / "rows.jsonl"
    rows = [
        {"prompt": f"question {n}", "completion": "yes", "lang": ["de", "en"][n % 2], "n": n,
         "more": {"x": 1}}
        for n in range(40)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataSection(train=str(path), validation_fraction=0.25)


def test_columns_of_validation_rows_are_read_from_train(section: DataSection) -> None:
    rows = load_splits(section, 0, Log(quiet=True)).test
    assert 5 < len(rows) < 20
    found = read_columns(section, "test", ["lang", "n", "more"], {row.where for row in rows}, 0)
    assert len(found) == len(rows)
    for row in rows:
        number = int(row.messages[0].content.split()[1])
        assert found[row.where] == {"lang": ["de", "en"][number % 2], "n": number}


def test_a_column_that_no_row_has_is_named_with_the_nearest(section: DataSection) -> None:
    rows = load_splits(section, 0, Log(quiet=True)).test
    with pytest.raises(InputError, match=r"no column 'langs'.*did you mean 'lang'"):
        read_columns(section, "test", ["langs"], {rows[0].where}, 0)
