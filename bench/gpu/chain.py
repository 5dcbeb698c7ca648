"""Every stage of the quickstart with ``device: cuda``, against the CPU, on a cut-down recipe.

Three runs of one recipe and seed: on the CPU in float32; on the device in float32, training and
merging alone, where hardware explains little; on the device as users run it (``auto``: bfloat16),
to the last file. What hardware's rounding explains is told with its tolerance, and not held against
the run: training amplifies a difference in the last bit. Held against it: a stage that fails, a
gate of a lossless file, a first loss that differs, another answer of the same weights.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CUT: dict[str, dict[str, Any]] = {
    "tune": {"max_steps": 80, "eval_every": 40},
    "distill": {"max_steps": 120, "eval_every": 60},
    "merge": {"measure_rows": 16},
    "quantize": {"gguf": ["F32", "Q8_0", "Q4_0"], "onnx": ["fp32", "int4"],
                 "calibration_rows": 32},
    "export": {"check_rows": 8},
    "bench": {"task_rows": 100, "kl_rows": 16, "max_new_tokens": 48, "repeats": 2},
    "report": {"gates": []},
}  # fmt: skip
#: With --cpu, of a random model of three layers and 36 rows.
TINY: dict[str, dict[str, Any]] = {
    "tune": {"max_steps": 4, "eval_every": 4, "batch_size": 8, "rank": 4},
    "distill": {"max_steps": 4, "eval_every": 4, "samples": 16, "rank": 4,
                "student": {"layers": 2}},
    "merge": {"measure_rows": 4},
    "quantize": {"gguf": ["F32"], "onnx": ["int4"], "calibration_rows": 8},
    "export": {"check_rows": 4},
    "bench": {"task_rows": 4, "kl_rows": 4, "max_new_tokens": 4, "prompt_tokens": 16,
              "new_tokens": 4, "repeats": 1},
}  # fmt: skip
#: How far a figure may be from the CPU's: of its value (losses, perplexity), or plainly.
TOLERANCES = {
    "first loss": 0.01, "loss": 0.05, "validation loss": 0.05, "perplexity": 0.05,
    "exact_match": 0.10, "kl_answer_tokens": 0.10, "merge KL": 1e-3,
}  # fmt: skip
RELATIVE = ("first loss", "loss", "validation loss", "perplexity")
#: Of the same weights in bfloat16 on the device and float32 on the CPU.
SAME_WEIGHTS = {"exact_match": 0.05, "perplexity": 0.03}
LARGEST_KL = 0.05


def write_recipe(path: Path, device: str, dtype: str, whole: bool, cpu: bool) -> list[str]:
    """Write the quickstart's recipe, cut; return what was left out for want of a package."""
    tree = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text(encoding="utf-8"))
    for cut in (CUT, TINY) if cpu else (CUT,):
        for name, values in cut.items():
            tree[name] = {**(tree.get(name) or {}), **values}
    if cpu:
        from tests.conftest import make_model, write_device_rows

        if not (path.parent / "model").exists():
            make_model(path.parent / "model", layers=3)
        rows = write_device_rows(path.parent / "rows.jsonl")
        tree["model"] = {"path": str(path.parent / "model")}
        tree["data"] = {"train": str(rows), "max_length": 64}
    tree["model"] |= {"device": device, "compute_dtype": dtype}
    if device == "cuda":  # by default Hugging Face models are measured on the GPU alone then
        tree["bench"]["devices"] = ["cpu", "cuda"]
    left_out = []
    for kind, module in (("gguf", "llama_cpp"), ("onnx", "onnxruntime_genai")):
        if importlib.util.find_spec(module) is None:
            left_out.append(f"{kind}: {module} is not installed")
            tree["quantize"][kind] = []
    if not whole or len(left_out) == 2:
        del tree["quantize"], tree["export"]
    if not whole:
        del tree["bench"]
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return left_out


def start(recipe: Path, out: Path, hidden: bool) -> subprocess.Popen[bytes]:
    """Start a run in a process of its own, without the GPU if it is to be hidden."""
    seen = {"CUDA_VISIBLE_DEVICES": ""} if hidden else {}
    return subprocess.Popen(
        [sys.executable, "-m", "edgetune", "run", str(recipe), "--out", str(out), "--json"],
        cwd=ROOT, env={**os.environ, **seen}, stdout=subprocess.DEVNULL,
        stderr=out.with_suffix(".log").open("wb"),
    )  # fmt: skip


def read_run(out: Path) -> dict[str, Any]:
    """Return a run's figures by name, and those of its models by name and device."""
    events = [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]
    report = json.loads((out / "report" / "report.json").read_text("utf-8"))
    figures: dict[str, float] = {}
    for role in ("teacher", "student", "baseline"):
        mine = [one for one in events if one["event"] == "train" and one.get("role") == role]
        losses = [one["loss"] for one in mine if "loss" in one]
        checked = [one["eval_loss"] for one in mine if "eval_loss" in one]
        if losses:
            figures |= {f"{role} first loss": losses[0], f"{role} last loss": losses[-1]}
        if checked:
            figures[f"{role} validation loss"] = checked[-1]
    for one in (report.get("merge") or {}).get("candidates", []):
        figures[f"{one['base']} merge KL"] = one["kl_answer_tokens"]
    models: dict[str, dict[str, float]] = {}
    for model in report["models"]:
        for one in model["measurements"]:
            key = f"{model['name']} on {one['where']['device']}"
            models.setdefault(key, {})[one["name"]] = one["value"]
    speed = {
        one["role"]: one["tokens_per_s"]
        for one in events if one["event"] == "train" and "tokens_per_s" in one
    }  # fmt: skip
    return {"figures": figures, "models": models, "tokens_per_s": speed,
            "verdict": report["verdict"], "gates": report["gates"],
            "kernels": report["training"].get("distill", {}).get("kernels")}  # fmt: skip


def compare(here: dict[str, float], there: dict[str, float]) -> list[dict[str, Any]]:
    """Return the figures that both have, how far they are apart, and whether within tolerance."""
    rows = []
    for name in sorted(here.keys() & there.keys()):
        kind = next((kind for kind in TOLERANCES if name.endswith(kind)), None)
        if kind is None:
            continue
        off = abs(there[name] - here[name]) / (abs(here[name]) if kind in RELATIVE else 1.0)
        rows.append({"name": name, "cpu": here[name], "device": there[name], "off": off,
                     "tolerance": TOLERANCES[kind], "within": off <= TOLERANCES[kind]})  # fmt: skip
    return rows


def flatten(run: dict[str, Any]) -> dict[str, float]:
    """Return a run's figures with those of its models on the CPU."""
    found = dict(run["figures"])
    for key, figures in run["models"].items():
        name, _, device = key.rpartition(" on ")
        if device == "cpu":
            found |= {f"{name} {figure}": value for figure, value in figures.items()}
    return found


def judge(runs: dict[str, dict[str, Any]]) -> tuple[list[str], dict[str, Any]]:
    """Return what is wrong, and the comparisons."""
    faults, told = [], {}
    for name in ("float32", "auto"):
        rows = compare(flatten(runs["cpu"]), flatten(runs[name]))
        told[f"{name} against the CPU"] = {
            "figures": rows, "outside": [row["name"] for row in rows if not row["within"]]
        }  # fmt: skip
        limit = 0.01 if name == "float32" else 0.05
        faults += [f"{name}: {row['name']} {row['device']:.4f}, on the CPU {row['cpu']:.4f}"
                   for row in rows
                   if row["name"] == "teacher first loss" and row["off"] > limit]  # fmt: skip
    for name in ("cpu", "auto"):
        faults += [f"{name}: gate {gate['name']} is {gate['value']}"
                   for gate in runs[name]["gates"] if not gate["ok"]]  # fmt: skip
    models = runs["auto"]["models"]
    same = []
    for key in [key for key in models if key.endswith(" on cuda")]:
        here, there = models[key.replace(" on cuda", " on cpu")], models[key]
        off = {name: abs(there[name] - here[name]) / (1 if name == "exact_match" else here[name])
               for name in SAME_WEIGHTS if name in there}  # fmt: skip
        kl = there.get("kl_answer_tokens", 0.0) - here.get("kl_answer_tokens", 0.0)
        same.append({"model": key, **off, "kl_more": kl})
        faults += [f"{key}: {name} is {value:.3f} off"
                   for name, value in off.items() if value > SAME_WEIGHTS[name]]  # fmt: skip
        faults += [f"{key}: KL {kl:.3f} more than on the CPU"] if kl > LARGEST_KL else []
    told["same weights, two devices"] = same
    return faults, told


def main() -> None:
    """Run thrice, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true")
    cpu = parser.parse_args().cpu
    device = "cpu" if cpu else "cuda"
    plan = {
        "cpu": ("cpu", "float32", True),
        "float32": (device, "float32", False),
        "auto": (device, "bfloat16" if cpu else "auto", True),
    }
    faults, left_out, took, runs = [], [], {}, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for key, (where, dtype, whole) in plan.items():
            left_out = write_recipe(folder / f"{key}.yaml", where, dtype, whole, cpu) or left_out
        began = time.monotonic()
        # The CPU's run goes on beside the device's two.
        beside = None if cpu else start(folder / "cpu.yaml", folder / "cpu", True)
        for key in ("cpu", "auto") if cpu else ("float32", "auto", "cpu"):
            at = time.monotonic() if key != "cpu" or cpu else began
            child = (
                beside
                if key == "cpu" and beside
                else start(folder / f"{key}.yaml", folder / key, cpu)
            )
            code = child.wait()
            took[key] = round(time.monotonic() - at, 1)
            if code not in (0, 3):  # 3: a gate failed, and there is a report that says which
                last = (folder / f"{key}.log").read_text("utf-8", "replace").splitlines()[-4:]
                faults.append(f"the run {key} ended with {code}: {' | '.join(last)}"[:600])
                continue
            runs[key] = read_run(folder / key)
        if cpu and "cpu" in runs:  # a second run of it would be the same
            runs["float32"] = runs["cpu"]
        more: dict[str, Any] = {}
        if len(runs) == len(plan):
            found, more = judge(runs)
            faults += found
    told = {key: {k: run[k] for k in ("tokens_per_s", "verdict", "kernels", "models")}
            for key, run in runs.items()}  # fmt: skip
    print(json.dumps({"faults": faults, "left_out": left_out, "seconds_of": took, "runs": told,
                      **more}))  # fmt: skip


if __name__ == "__main__":
    main()
