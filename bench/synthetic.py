"""Do synthetic answers lift a student that has a tenth of the labels? And do failures, again?

    python bench/synthetic.py --json

SNIPS with stories260K. Per seed: the teacher, the base with its five layers, is tuned whole on a
tenth of the rows. It answers prompts of the other rows (``edgetune synthesize``, validators: label,
agreement of two samples, leakage). The student is the base cut to three layers, trained whole for
the same steps on the tenth alone; with the synthetic rows; with more synthetic rows from prompts
near its failures (``from: failures``); and, as a control of that, with as many from random prompts.
Ends with the differences, each a mean over seeds with its 95 % interval.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
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
from edgetune.pipeline import run_alone  # noqa: E402
from edgetune.recipe.load import load_recipe  # noqa: E402
from edgetune.runtimes import open_runtime  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "synthetic.jsonl"
RECIPE = ROOT / "configs" / "snips-stories260k.yaml"
VALIDATION_ROWS = 275
STAGES = dict.fromkeys(("tune", "distill", "merge", "quantize", "export", "bench"))
# What differs between two arms, and the arm without it.
LIFTS = {"synthetic": "tenth", "failures": "synthetic", "random": "synthetic"}


def write_splits(source: Path, seed: int, folder: Path) -> dict[str, str]:
    """Divide a file by the seed: a tenth with labels, validation rows, prompts of the rest."""
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    truth = {row["prompt"]: row["completion"] for row in rows}
    random.Random(seed).shuffle(rows)
    tenth = len(rows) // 10
    parts = {
        "validation": rows[:VALIDATION_ROWS],
        "tenth": rows[VALIDATION_ROWS : VALIDATION_ROWS + tenth],
        "prompts": [{"prompt": row["prompt"]} for row in rows[VALIDATION_ROWS + tenth :]],
    }
    for name, some in parts.items():
        lines = (json.dumps({key: row[key] for key in row if key != "slots"}) for row in some)
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "truth.json").write_text(json.dumps(truth))
    return {name: str(folder / f"{name}.jsonl") for name in parts}


def cut(base: str, kept: list[int], folder: Path) -> str:
    """Save the base with some of its layers: the student before its training."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base)
    model.model.layers = type(model.model.layers)(model.model.layers[n] for n in kept)
    model.config.num_hidden_layers = len(kept)
    for number, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = number
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return str(folder)


class Seed:
    """One seed's experiment in a folder of its own."""

    def __init__(self, args: argparse.Namespace, seed: int, folder: Path) -> None:
        self.args, self.seed, self.folder = args, seed, folder
        self.log = Log(None, quiet=not args.verbose)
        base, _ = load_recipe(RECIPE, (), {})
        self.base = base.model.path
        self.files = write_splits(resolve_data(str(base.data.train)), seed, folder)

    def run_stage(
        self, stage: str, name: str, train: list[str], *sets: str, model: str = ""
    ) -> Artifact:
        """Run a stage on these train sources with the recipe's settings and some of our own."""
        overrides = (
            f"seed={self.seed}", f"data.train=[{', '.join(train)}]",
            f"data.validation={self.files['validation']}", "data.validation_fraction=0.05",
            f"model.path={model or self.base}", *sets,
        )  # fmt: skip
        recipe, _ = load_recipe(RECIPE, overrides, {})
        keep = {**STAGES, stage: getattr(recipe, stage)}
        recipe = recipe.model_copy(update=keep)
        return run_alone(stage, recipe, {}, self.folder / name, self.log)

    def train_student(self, name: str, train: list[str]) -> Artifact:
        """Train the cut base whole: as the recipe's distillation does, without a teacher."""
        return self.run_stage(
            "tune", name, train, "tune.method=full", "tune.learning_rate=3e-3",
            f"tune.max_steps={self.args.steps}", "tune.eval_every=200",
            model=str(self.folder / "cut"),
        )  # fmt: skip

    def write_rows(self, name: str, train: list[str], count: int, *sets: str) -> dict[str, Any]:
        """Have the teacher answer prompts; return yields and how many answers are right."""
        made = self.run_stage(
            "synthesize", name, train, f"synthesize.teacher={self.folder / 'teacher'}",
            f"synthesize.prompts={self.files['prompts']}", f"synthesize.count={count}",
            "synthesize.max_new_tokens=24", "synthesize.batch_size=1000",
            "synthesize.validators.labels=true",
            f"synthesize.validators.samples={self.args.samples}",
            f"synthesize.validators.agreement={self.args.agreement}", *sets,
        )  # fmt: skip
        truth = json.loads((self.folder / "truth.json").read_text())
        accepted, rejected = (self._right(made.path / file, truth) for file in
                              ("rows.jsonl", "rejected.jsonl"))  # fmt: skip
        return {
            "asked": made.facts["asked"], "accepted": made.facts["accepted"],
            "rejected": made.facts["rejected"], "failures": made.facts.get("failures"),
            "right_accepted": accepted, "right_rejected": rejected,
            "seconds": made.facts["seconds"],
        }  # fmt: skip

    def _right(self, path: Path, truth: dict[str, str]) -> float | None:
        rows = [json.loads(line)["messages"] for line in path.read_text().splitlines()]
        right = [turns[-1]["content"] == truth[turns[-2]["content"]] for turns in rows]
        return statistics.mean(right) if right else None

    def score(self, made: Artifact) -> float:
        """Return the fraction of test rows answered exactly, by greedy decoding."""
        recipe, _ = load_recipe(RECIPE, (), {})
        encoder = encoder_of(made.contract_folder, recipe.data)
        source = resolve_data(str(recipe.data.test))
        asked = load_rows(source, recipe.data, Log(None, quiet=True), "test").rows
        runtime = open_runtime(ModelRef.from_json(made.facts["model"], made.path))
        try:
            said = runtime.generate([encoder.prompt(row) for row in asked], 24, encoder.stop_ids)
        finally:
            runtime.close()
        texts = [encoder.decode_answer(ids) for ids in said]
        return sum(t == row.answer for t, row in zip(texts, asked, strict=True)) / len(asked)

    def run(self) -> dict[str, Any]:
        """Return the scores of all arms, and what was written for them."""
        began = time.monotonic()
        args, tenth = self.args, self.files["tenth"]
        cut(self.base, args.layers, self.folder / "cut")
        teacher = self.run_stage(
            "tune", "teacher", [tenth], "tune.method=full", "tune.learning_rate=3e-3",
            f"tune.max_steps={args.steps}",
        )  # fmt: skip
        row: dict[str, Any] = {"seed": self.seed, "teacher": self.score(teacher)}
        row["tenth"] = self.score(self.train_student("tenth", [tenth]))
        written = {"synthetic": self.write_rows("rows", [tenth], args.count)}
        some = [tenth, str(self.folder / "rows")]
        row["synthetic"] = self.score(self.train_student("student", some))
        near = ("synthesize.from=failures", f"synthesize.failures_of={self.folder / 'student'}")
        written["failures"] = self.write_rows("near", some, args.more, *near)
        row["failures"] = self.score(
            self.train_student("again", [*some, str(self.folder / "near")])
        )
        written["random"] = self.write_rows("far", some, args.more)
        row["random"] = self.score(self.train_student("control", [*some, str(self.folder / "far")]))
        return {**row, "written": written, "seconds": round(time.monotonic() - began, 1)}


def run_seed(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Return one seed's scores."""
    with tempfile.TemporaryDirectory() as scratch:
        return Seed(args, seed, Path(scratch)).run()


def interval(values: list[float]) -> dict[str, Any]:
    """Return the mean with its 95 % interval (Student's t)."""
    mean, half = statistics.mean(values), math.inf
    if len(values) > 1:
        half = t95(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return {"difference": mean, "difference_ci95": [mean - half, mean + half]}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--count", type=int, default=5000, help="prompts answered at first")
    parser.add_argument("--more", type=int, default=1000, help="prompts answered in the loop")
    parser.add_argument("--agreement", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=600, help="of every student's training")
    parser.add_argument(
        "--layers", type=int, nargs="+", default=[0, 1, 4], help="the student keeps"
    )
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time")
    parser.add_argument("--samples", type=int, default=2, help="of agreement")
    parser.add_argument("--quick", action="store_true", help="one seed; nothing is kept")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    args = parser.parse_args()
    rows = []
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        for row in pool.map(partial(run_seed, args), range(1 if args.quick else args.seeds)):
            rows.append(row)
            print(json.dumps(row), flush=True)
    found = {
        "recipe": RECIPE.name, "count": args.count, "more": args.more,
        "agreement": args.agreement, "layers": args.layers, "steps": args.steps,
        **{name: statistics.mean(row[name] for row in rows)
           for name in ("teacher", "tenth", *LIFTS)},
        "lifts": {f"{name} over {base}": interval([row[name] - row[base] for row in rows])
                  for name, base in LIFTS.items()},
        "seeds": rows,
    }  # fmt: skip
    if not args.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a") as file:
            file.write(json.dumps(found) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
