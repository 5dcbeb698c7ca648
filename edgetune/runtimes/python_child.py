"""Run a user's function: ``python -I python_child.py FILE FUNCTION BYTES_OF_MEMORY``.

Only the standard library is imported here, beside what the file itself imports.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def main() -> None:
    """Answer jobs until the input ends."""
    path, name, memory = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the function prints must not get between the messages
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    try:
        function = load(path, name)
    except BaseException as error:  # a file may end its process as it is loaded
        write(answers, {"error": f"cannot be loaded: {describe(error)}"})
        return
    write(answers, {})
    while (job := read(sys.stdin.buffer)) is not None:
        try:
            found = [float(value) for value in function(**job)]
            write(answers, {"scores": found})
        except Exception as error:
            write(answers, {"error": f"raises {describe(error)}"})


def load(path: Path, name: str) -> Callable[..., Any]:
    """Return the function of the file."""
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, name, None)
    if not callable(found):
        raise AttributeError(f"no function '{name}'")
    return found  # type: ignore[no-any-return]


def describe(error: BaseException) -> str:
    """Return what happened, and in which line."""
    line = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" (line {line[0].lineno})" if line else ""
    return f"{type(error).__name__}: {error}{place}"


def read(stream: IO[bytes]) -> dict[str, Any] | None:
    """Wait for one message, as :mod:`edgetune.runtimes.child` writes them."""
    size = stream.read(4)
    if len(size) < 4:
        return None
    found: dict[str, Any] = json.loads(stream.read(struct.unpack("<I", size)[0]))
    return found


def write(stream: IO[bytes], head: dict[str, Any]) -> None:
    """Send one message."""
    raw = json.dumps(head).encode()
    stream.write(struct.pack("<I", len(raw)) + raw)
    stream.flush()


if __name__ == "__main__":
    main()
