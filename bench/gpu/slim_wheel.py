"""Drop from a bitsandbytes wheel the libraries for other GPUs than those of one CUDA version."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

_LIBRARY = re.compile(r"bitsandbytes/libbitsandbytes_(?P<kind>[a-z0-9]+)\.so$")


def slim(wheel: Path, cuda: str) -> list[str]:
    """Rewrite the wheel; return the libraries that are left.

    Raises:
        SystemExit: it has none for this CUDA version.
    """
    kept: list[str] = []
    part = wheel.with_suffix(".part")
    with zipfile.ZipFile(wheel) as old:
        dropped = set()
        for name in old.namelist():
            if found := _LIBRARY.search(name):
                if found["kind"] in ("cpu", f"cuda{cuda}"):
                    kept.append(found["kind"])
                else:
                    dropped.add(name)
        if f"cuda{cuda}" not in kept:
            raise SystemExit(f"{wheel.name} has no library for CUDA {cuda}: {sorted(dropped)}")
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
            for entry in old.infolist():
                if entry.filename in dropped:
                    continue
                content = old.read(entry)
                if entry.filename.endswith(".dist-info/RECORD"):
                    lines = content.decode().splitlines(keepends=True)
                    content = "".join(
                        line for line in lines if line.partition(",")[0] not in dropped
                    ).encode()
                new.writestr(entry, content)
    part.replace(wheel)
    return kept


if __name__ == "__main__":
    print("bitsandbytes keeps", ", ".join(slim(Path(sys.argv[1]), sys.argv[2])), file=sys.stderr)
