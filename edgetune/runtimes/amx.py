"""Whether this build of llama.cpp can be run on a CPU with AMX."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import llama_cpp
from llama_cpp import llama_cpp as c

_GCC_FIXED = {11: 5, 12: 4, 13: 3}  # minor releases from which bug 114098 is mended


@cache
def has_broken_amx() -> bool:
    """Whether this build of llama.cpp dies of a general protection fault on quantized weights.

    GCC before 11.5, 12.4 and 13.3 takes ``_tile_loadconfig`` to read 8 of its 64 bytes and drops
    the stores of the others (GCC bug 114098); Debian 12 compiles with 12.2.
    """
    if b"AMX_INT8 = 1" not in c.llama_print_system_info():
        return False
    library = Path(llama_cpp.__file__).parent / "lib" / "libggml-cpu.so"
    if not library.is_file():
        return False  # no ELF file: not one of GCC's on Linux
    named = re.search(rb"GCC: \([^)]*\) (\d+)\.(\d+)", library.read_bytes())
    if named is None:
        return False  # another compiler
    major, minor = int(named[1]), int(named[2])
    return major < 14 and minor < _GCC_FIXED.get(major, 99)
