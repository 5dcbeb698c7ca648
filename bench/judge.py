"""Whether evaluation can be trusted: parts that are measured one by one, rows kept.

    python bench/judge.py metric_difference interval_coverage --json

Parts are functions in files beside this one, given whether to be quick (fewer cases: nothing is
kept) and yielding rows; the row with ``figure`` is the part's result. Some need the assets.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

RESULTS = ROOT / "bench" / "results" / "judge.jsonl"
#: Part to the module in bench that has a function of its name.
PARTS = {
    "lm_eval_difference": "judge_lm_eval",
    "metric_difference": "judge_metrics",
    "interval_coverage": "judge_intervals",
    "difference_alarms": "judge_intervals",
    "votes": "judge_votes",
    "bias_found": "judge_bias",
    "bias_false_alarms": "judge_bias",
}


def find_part(name: str) -> Callable[[bool], Iterator[dict[str, Any]]]:
    """Return the function of a part."""
    part: Callable[[bool], Iterator[dict[str, Any]]] = getattr(
        importlib.import_module(f"bench.{PARTS[name]}"), name
    )
    return part


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="absent: all")
    parser.add_argument("--quick", action="store_true", help="fewer cases; nothing is kept")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    args = parser.parse_args()
    figures: dict[str, Any] = {}
    for name in args.parts or PARTS:
        for row in find_part(name)(args.quick):
            row = {"part": name, **row}
            print(json.dumps(row), file=sys.stderr, flush=True)
            if not args.quick:
                RESULTS.parent.mkdir(exist_ok=True)
                with RESULTS.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            if "figure" in row:
                figures[name] = row["figure"]
    if args.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
