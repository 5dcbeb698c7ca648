"""Two processes on one PostgreSQL study, one killed midway: is a trial lost or doubled?

    python bench/sweep.py configs/sweep.yaml --trials 20 --storage postgresql://USER@HOST/DATABASE

Ends with ``sweep_trials_lost`` (numbers of the study that are not finished exactly once) and what
the page says of the best trial against the recipe's own values on the test rows. ``--keep``
appends the row to bench/results/sweep.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from edgetune.log import Log  # noqa: E402 - the root is known now
from edgetune.models.hardware import describe_machine  # noqa: E402
from edgetune.recipe.load import load_recipe  # noqa: E402
from edgetune.recipe.trial import search_of  # noqa: E402
from edgetune.sweep.study import Study  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "sweep.jsonl"
KILLED_AFTER = 0.3  # of the trials


def start(arguments: argparse.Namespace, out: Path) -> subprocess.Popen[bytes]:
    """Start a process that works on the study."""
    sets = [word for one in arguments.sets for word in ("--set", one)]
    return subprocess.Popen(
        [sys.executable, "-m", "edgetune", "sweep", arguments.recipe, *sets, "--out", out,
         "--trials", str(arguments.trials), "--storage", arguments.storage, "--study", out.name],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def run(arguments: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Kill the first of two processes in a trial; the second goes on to the end."""
    began = time.monotonic()
    recipe, _ = load_recipe(Path(arguments.recipe), arguments.sets)
    first, second = start(arguments, out), start(arguments, out)
    study = Study(search_of(recipe), arguments.storage, out.name, out.parent, Log(quiet=True))
    while True:
        trials = study.trials()
        own = [t.number for t in trials if t.owner == first.pid and t.state == "running"]
        if own and sum(t.is_finished for t in trials) >= KILLED_AFTER * arguments.trials:
            break
        if first.poll() is not None:
            raise SystemExit("the first process ended before it could be killed")
        time.sleep(0.5)
    first.kill()
    first.wait()
    if second.wait() != 0:
        raise SystemExit("the second process failed")
    trials = study.trials()
    finished = [one.number for one in trials if one.is_finished]
    wanted = set(range(arguments.trials))
    report = json.loads((out / "report" / "report.json").read_text(encoding="utf-8"))
    states = [one.state for one in trials]
    return {
        "bench": "sweep",
        "recipe": Path(arguments.recipe).name,
        "sets": arguments.sets,
        "trials": arguments.trials,
        "sweep_trials_lost": len(wanted ^ set(finished)) + len(finished) - len(set(finished)),
        "killed_in": own[0],
        "taken_up_by_the_other": trials[own[0]].owner == second.pid,
        "states": {state: states.count(state) for state in sorted(set(states))},
        "best": trials[report["best"]].values,
        "comparison": report["comparison"],
        "importance": report["importance"],
        "seconds": round(time.monotonic() - began, 1),
        "machine": describe_machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--storage", required=True)
    parser.add_argument("--set", dest="sets", action="append", default=[])
    parser.add_argument("--keep", action="store_true", help="append the row to the results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgetune-sweep-") as folder:
        row = run(arguments, Path(folder) / f"study-{int(time.time())}")
    text = json.dumps(row, ensure_ascii=False)
    print(text)
    if arguments.keep:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
