"""A llama.cpp that a GCC has compiled into a crash is known by its compiler's name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgetune.runtimes import amx

AMX, NONE = b"CPU : AVX512 = 1 | AMX_INT8 = 1 |", b"CPU : AVX512 = 1 |"


@pytest.fixture(autouse=True)
def _no_memory() -> Iterator[None]:
    amx.has_broken_amx.cache_clear()
    yield
    amx.has_broken_amx.cache_clear()


@pytest.mark.parametrize(
    ("system", "compiler", "broken"),
    [
        (AMX, b"GCC: (Debian 12.2.0-14) 12.2.0", True),
        (AMX, b"GCC: (Debian 12.4.0-1) 12.4.0", False),
        (AMX, b"GCC: (Ubuntu 11.4.0-1ubuntu1) 11.4.0", True),
        (AMX, b"GCC: (GNU) 13.2.1", True),
        (AMX, b"GCC: (Ubuntu 13.3.0-6) 13.3.0", False),
        (AMX, b"GCC: (GNU) 14.1.0", False),
        (AMX, b"Debian clang version 14.0.6", False),
        (NONE, b"GCC: (Debian 12.2.0-14) 12.2.0", False),
    ],
)
def test_known_by_its_compiler(
    system: bytes, compiler: bytes, broken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libggml-cpu.so").write_bytes(b"\x7fELF\0" + compiler + b"\0.comment\0")
    monkeypatch.setattr(amx.llama_cpp, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(amx.c, "llama_print_system_info", lambda: system)
    assert amx.has_broken_amx() is broken
