"""Compare two finished runs of one recipe: bytes of every artifact, every number of report.json.

    python tools/compare_runs.py runs/before runs/after

A change that moves code or renames things must leave both equal. Files are paired by stage and
path, else by content (renamed). Binary files must have equal bytes; JSON files equal values, where
a value that has another key in the second run counts as renamed. What depends on the
clock, the memory or the place of the run is left out: seconds, milliseconds, tokens per second,
resident memory, dates, paths, keys of artifacts and digests of files that hold such values.
Exits with 1 where something differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STAGE = re.compile(r"^(?P<stage>[a-z_]+)-[0-9a-f]{8}$")
#: Files whose bytes hold the place or the time of the run; report.json holds their numbers.
UNSTABLE = ("artifact.json", "measurements.json", "manifest.json", "log.jsonl", "recipe.yaml")
TIMED_UNITS = {"ms", "s", "tokens/s", "bytes/s"}
TIMED_NAMES = re.compile(r"rss|seconds|_ms(_|$)|per_s(_|$)|(^|_)load_s$|created|when|date")
PLACED_NAMES = re.compile(r"(^|_)(path|key|sha256|parents|sources?|versions|commit)$")
DIGEST = re.compile(r"^[0-9a-f]{40,64}$")

Values = dict[tuple[str, ...], Any]


def pair_files(before: Path, after: Path) -> tuple[list[tuple[str, Path, Path]], list[str]]:
    """Pair the files of two runs; return pairs and the names that have no partner."""
    left, right = dict(list_files(before)), dict(list_files(after))
    pairs = [(name, left[name], right[name]) for name in left if name in right]
    by_content = {digest(path): name for name, path in right.items() if name not in left}
    unpaired = []
    for name in sorted(left.keys() - right.keys()):
        renamed = by_content.pop(digest(left[name]), None)
        if renamed is None:
            unpaired.append(f"only before: {name}")
        else:
            pairs.append((f"{name} -> {renamed}", left[name], right[renamed]))
    return pairs, unpaired + [f"only after: {name}" for name in sorted(by_content.values())]


def list_files(run: Path) -> Iterator[tuple[str, Path]]:
    """Yield every file that a run keeps, under its stage's name without the key."""
    for path in sorted(run.rglob("*")):
        parts = path.relative_to(run).parts
        stage = STAGE.match(parts[0])
        if path.is_file() and stage and parts[1] != "scratch" and path.name not in UNSTABLE:
            yield "/".join((stage["stage"], *parts[1:])), path


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flatten(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each number, text and truth value of a JSON document that a second run repeats."""
    if isinstance(value, dict):
        if value.get("unit") in TIMED_UNITS or TIMED_NAMES.search(str(value.get("name", ""))):
            return
        for name, inner in value.items():
            if not (TIMED_NAMES.search(name) or PLACED_NAMES.search(name)):
                yield from flatten(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from flatten(inner, (*path, str(index)))
    elif not (isinstance(value, str) and (DIGEST.match(value) or "/" in value)):
        yield path, value


def compare_values(before: Values, after: Values) -> tuple[int, list[str], list[str]]:
    """Return how many numbers are equal, the renamed keys, and the differences."""
    numbers = (int, float)
    equal, differences = 0, []
    for path in before.keys() & after.keys():
        if isinstance(before[path], numbers) and before[path] != after[path]:
            differences.append(f"{'/'.join(path)}: {before[path]!r} -> {after[path]!r}")
        elif isinstance(before[path], numbers):
            equal += 1
    new = defaultdict(list)
    for path in after.keys() - before.keys():
        new[repr(after[path])].append(path)
    renamed = []
    for path in sorted(before.keys() - after.keys()):
        if not isinstance(before[path], numbers) or isinstance(before[path], bool):
            continue
        candidates = new[repr(before[path])]
        if candidates:
            candidates.sort(key=lambda other: -shared(path, other))
            renamed.append(f"{'/'.join(path)} -> {'/'.join(candidates.pop(0))}")
            equal += 1
        else:
            differences.append(f"{'/'.join(path)}: {before[path]!r} -> gone")
    return equal, renamed, sorted(differences)


def shared(path: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Return how many parts of two paths are the same."""
    return sum(left == right for left, right in zip(path, other, strict=False))


def compare_runs(before: Path, after: Path) -> tuple[list[str], list[str]]:
    """Return the lines that sum up what is equal, and the differences."""
    pairs, differences = pair_files(before, after)
    same = 0
    for name, left, right in pairs:
        if digest(left) == digest(right):
            same += 1
        elif left.suffix in (".json", ".jsonl"):
            _, _, changes = compare_values(*(dict(flatten(read(file))) for file in (left, right)))
            differences += [f"{name}: {line}" for line in changes] or [f"{name}: names or texts"]
        else:
            differences.append(f"{name}: bytes differ")
    documents = [dict(flatten(read(run / "report" / "report.json"))) for run in (before, after)]
    equal, renamed, changes = compare_values(*documents)
    summary = [f"{same} of {len(pairs)} files have equal bytes"]
    summary.append(f"{equal} numbers of report.json are equal, {len(renamed)} under a new name")
    summary += [f"renamed: {line}" for line in renamed]
    return summary, differences + [f"report.json: {line}" for line in changes]


def read(path: Path) -> Any:
    """Read a JSON document, or one per line."""
    text = path.read_text(encoding="utf-8")
    return (
        [json.loads(line) for line in text.splitlines()]
        if path.suffix == ".jsonl"
        else json.loads(text)
    )


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    arguments = parser.parse_args()
    for run in (arguments.before, arguments.after):
        if not (run / "report" / "report.json").is_file():
            parser.error(f"{run} is no finished run: it has no report/report.json")
    summary, differences = compare_runs(arguments.before, arguments.after)
    lines = [*summary, *(f"DIFFERS {line}" for line in differences)]
    print("\n".join(lines if differences else [*lines, "nothing differs"]))
    return bool(differences)


if __name__ == "__main__":
    sys.exit(main())
