"""The command line of benchmarks that are made of parts: each a function in a file of its own."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any


def find_part(name: str, parts: Mapping[str, str]) -> Callable[[bool], Iterator[dict[str, Any]]]:
    """Return the function of a part, which yields rows, given whether to be quick."""
    part: Callable[[bool], Iterator[dict[str, Any]]] = getattr(
        importlib.import_module(f"bench.{parts[name]}"), name
    )
    return part


def run_parts(parts: Mapping[str, str], results: Path, description: str | None) -> None:
    """Run the parts that the command line names, print their rows and keep them.

    Args:
        parts: name to the module in bench that has a function of it.
        results: file that rows are appended to, unless it is to be quick.
        description: of the script, for its help.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="absent: all")
    parser.add_argument("--quick", action="store_true", help="less of it; nothing is kept")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    args = parser.parse_args()
    figures: dict[str, Any] = {}
    for name in args.parts or parts:
        for row in find_part(name, parts)(args.quick):
            row = {"part": name, **row}
            print(json.dumps(row), file=sys.stderr, flush=True)
            if not args.quick:
                results.parent.mkdir(exist_ok=True)
                with results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            if "figure" in row:
                figures[name] = row["figure"]
    if args.json:
        print(json.dumps(figures))
