"""Lists packed whole are the bytes that the library makes of them value by value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFValueType, GGUFWriter

from edgetune.export.gguf.writer import GgufWriter


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", "ö", ""], GGUFValueType.STRING),
        ([b"\xff\x00", b""], GGUFValueType.STRING),
        ([1, -2, 3], GGUFValueType.INT32),
        ([0.5, -1e30], GGUFValueType.FLOAT32),
        ([True, False], GGUFValueType.BOOL),
        ([1, 2], None),
    ],
)
def test_lists_are_the_librarys_bytes(values: list[Any], kind: Any, tmp_path: Path) -> None:
    made = []
    for writer in (GGUFWriter, GgufWriter):
        file = writer(tmp_path / writer.__name__, "llama")
        file.add_key_value("list", values, GGUFValueType.ARRAY, sub_type=kind)
        file.add_uint32("one", 1)
        file.write_header_to_file()
        file.write_kv_data_to_file()
        file.close()
        made.append((tmp_path / writer.__name__).read_bytes())
    assert made[0] == made[1]
