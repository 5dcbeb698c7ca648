"""What each way to tune gives: parts that are measured one by one, rows kept.

    python bench/tune.py adapter_over_gguf_kl three_ways --json

Parts are functions in files beside this one, given whether to be quick (a few steps: nothing is
kept) and yielding rows. Some need the assets.
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

RESULTS = ROOT / "bench" / "results" / "tune.jsonl"
#: Part to the module in bench that has a function of its name.
PARTS = {
    "rank_auto_gain": "tune_ranks",
    "objectives": "tune_preferences",
    "trl_loss_difference": "tune_preferences",
    "adapter_over_gguf_kl": "tune_over_gguf",
    "three_ways": "tune_over_gguf",
    "init_proposals": "tune_proposals",
    "prompting": "tune_proposals",
    "smaller_beats_larger": "tune_proposals",
    "adapter_switching": "tune_over_gguf",
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
    parser.add_argument("--quick", action="store_true", help="a few steps; nothing is kept")
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
