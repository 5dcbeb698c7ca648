"""Whether evaluation can be trusted: parts that are measured one by one, rows kept.

    python bench/judge.py metric_difference interval_coverage --json

Parts are functions in files beside this one, given whether to be quick (fewer cases: nothing is
kept) and yielding rows; the row with ``figure`` is the part's result. Some need the assets.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from bench.parts import run_parts  # noqa: E402 - the root is known now

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


if __name__ == "__main__":
    run_parts(PARTS, RESULTS, __doc__)
