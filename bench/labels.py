"""Is the teacher worth it when one row in ten is labelled? Teacher, baseline and student by seed.

    python bench/labels.py --recipe configs/snips-stories260k.yaml --json

The teacher is tuned on a tenth of the rows; the student gets those and the other rows' prompts,
which the teacher answers (``distill.prompts``); the baseline is the same student with the tenth
alone, for as many steps. Ends with ``difference`` (student over baseline, mean over seeds, with its
95 % interval) and ``gap_recovered`` (share of the way from baseline to teacher).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from edgetune.artifact import Artifact  # noqa: E402 - the root is known now
from edgetune.data.contract import encoder_of  # noqa: E402
from edgetune.data.load import load_rows  # noqa: E402
from edgetune.log import Log  # noqa: E402
from edgetune.measure.statistics import t95  # noqa: E402
from edgetune.models.ref import ModelRef  # noqa: E402
from edgetune.models.resolve import resolve_data  # noqa: E402
from edgetune.pipeline import execute  # noqa: E402
from edgetune.recipe.load import load_recipe  # noqa: E402
from edgetune.rundir import RunDir  # noqa: E402
from edgetune.runtimes import open_runtime  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "labels.jsonl"


def score(ref: ModelRef, artifact: Artifact, data: Any, rows: int, longest: int) -> float:
    """Return the share of test rows answered exactly, by greedy decoding."""
    encoder = encoder_of(artifact.contract_folder, data)
    source = resolve_data(data.test)
    asked = load_rows(source, data, Log(None, quiet=True), "test").rows[:rows]
    runtime = open_runtime(ref)
    try:
        answers = runtime.generate(
            [encoder.prompt(row) for row in asked], longest, encoder.stop_ids
        )
    finally:
        runtime.close()
    said = [encoder.decode_answer(answer) for answer in answers]
    return sum(a == row.answer.strip() for a, row in zip(said, asked, strict=True)) / len(asked)


def run_seed(args: argparse.Namespace, seed: int, folder: Path) -> dict[str, Any]:
    """Tune, distil and score once."""
    base, _ = load_recipe(args.recipe, (), {})
    total = len(load_rows(resolve_data(base.data.train), base.data, Log(None, quiet=True)).rows)
    overrides = (
        f"seed={seed}", f"data.limit={total // 10}", f"distill.prompts={base.data.train}",
        *args.set,
    )  # fmt: skip
    recipe, origins = load_recipe(args.recipe, overrides, {})
    stages = dict.fromkeys(("merge", "quantize", "export", "bench"))
    recipe = recipe.model_copy(update=stages)
    began = time.monotonic()
    done = execute(recipe, origins, RunDir(folder), Log(None, quiet=not args.verbose))
    tuned, made = done["tune"], done["distill"]
    refs = {
        "teacher": (ModelRef.from_json(tuned.facts["model"], tuned.path), tuned),
        "baseline": (ModelRef.from_json(made.facts["baseline"], made.path), made),
        "student": (ModelRef.from_json(made.facts["student"], made.path), made),
    }
    row: dict[str, Any] = {
        name: score(ref, artifact, recipe.data, args.rows, args.longest)
        for name, (ref, artifact) in refs.items()
    }
    return {**row, "seed": seed, "labelled": total // 10,
            "seconds": round(time.monotonic() - began, 1)}  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1000, help="test rows that are answered")
    parser.add_argument("--longest", type=int, default=32, help="tokens of an answer")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--quick", action="store_true", help="one seed; nothing is kept")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    args = parser.parse_args()
    rows = []
    for seed in range(1 if args.quick else args.seeds):
        with tempfile.TemporaryDirectory() as scratch:
            rows.append(run_seed(args, seed, Path(scratch) / "run"))
        print(json.dumps(rows[-1]), flush=True)
    won = [row["student"] - row["baseline"] for row in rows]
    gap = statistics.mean(row["teacher"] - row["baseline"] for row in rows)
    half = math.inf
    if len(won) > 1:
        half = t95(len(won) - 1) * statistics.stdev(won) / math.sqrt(len(won))
    mean = statistics.mean(won)
    found = {
        "recipe": args.recipe.name, "set": args.set, "difference": mean,
        "difference_ci95": [mean - half, mean + half],
        "gap_recovered": mean / gap if gap > 0 else None,
        **{name: statistics.mean(row[name] for row in rows)
           for name in ("teacher", "baseline", "student")},
        "seeds": rows,
    }  # fmt: skip
    if not args.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a") as file:
            file.write(json.dumps(found) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
