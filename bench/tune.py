"""What each way to tune gives: parts that are measured one by one, rows kept.

    python bench/tune.py adapter_over_gguf_kl three_ways --json

Parts are functions in files beside this one, given whether to be quick (a few steps: nothing is
kept) and yielding rows. Some need the assets.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from bench.parts import run_parts  # noqa: E402 - the root is known now

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


if __name__ == "__main__":
    run_parts(PARTS, RESULTS, __doc__)
