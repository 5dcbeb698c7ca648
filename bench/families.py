"""Tune, merge, export and verify a tiny random model of every family; write docs/verified.md.

    python bench/families.py --json
    python bench/families.py --family llama --family gemma2 --quick

Each model has two layers and its family's own oddities (tests/tiny_models.py). It goes through the
same commands as any model: `edgetune run`, then `edgetune verify --bisect` over what came out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tests.tiny_models import FAMILIES, make_tiny_model  # noqa: E402 - the root is known now

WIDTH = 256  # hidden size: the smallest at which K-quants apply
GGUF = ("F32", "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0")
ONNX = ("fp32", "int8", "int4")
TOKENS = 512  # judged a link; a vocabulary of 150,000 makes 600 MB of them
RESULTS = ROOT / "bench" / "results" / "families.jsonl"
PAGE = ROOT / "docs" / "verified.md"

RECIPE = """\
name: {name}
seed: 0
model: {{path: {model}}}
data: {{train: {data}, max_length: 192}}
tune: {{method: {method}, rank: 8, alpha: 16, learning_rate: 3.0e-3, max_steps: {steps},
  batch_size: 8, packing: false}}
merge: {{dtype: float32}}
quantize: {{gguf: [{gguf}], onnx: [{onnx}], calibration_rows: 64}}
export: {{check_rows: 16}}
"""


def run_family(name: str, folder: Path, steps: int) -> dict[str, Any]:
    """Return the links of one family's chain, what was refused, and how long it took."""
    from edgetune.compare.checks import Question
    from edgetune.diagnose.bisect import find_steps, verify_steps
    from edgetune.log import Log

    began = time.monotonic()
    base = make_tiny_model(name, folder / "base", width=WIDTH)
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        RECIPE.format(
            name=name, model=base, data="embedded:devices/validation.jsonl", steps=steps,
            method="lora" if name == "gpt2" else "qlora", gguf=", ".join(GGUF),
            onnx=", ".join(ONNX),
        )
    )  # fmt: skip
    run = folder / "run"
    done = subprocess.run(
        [sys.executable, "-m", "edgetune", "run", str(recipe), "--out", str(run)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    row: dict[str, Any] = {"family": name, "exit_code": done.returncode, "refused": {}, "cells": {}}
    if done.returncode == 2:
        row["refused"]["all"] = done.stderr.strip().splitlines()[-2:]
        return row
    links = verify_steps(find_steps(run), Question((), TOKENS), Log(None, quiet=True))
    for link in links:
        pair = link.comparison
        weights = pair.find("weights").figures
        row["cells"][link.name.split(" → ")[-1]] = {
            "verdict": "pass" if pair.ok else "fail", "class": pair.kind,
            "failing_check": pair.failing_check,
            "kl_mean": weights.get("kl_mean"), "top1_agreement": weights.get("top1_agreement"),
            "faults": [fault.name for fault in pair.faults],
        }  # fmt: skip
    export = next(run.glob("export*/artifact.json"), None)
    if export:
        for one in json.loads(export.read_text())["facts"]["refused"]:
            row["refused"][f"{one['scheme']}.{one['format']}"] = one["why"]
    row["seconds"] = round(time.monotonic() - began, 1)
    return row


def write_page(rows: Sequence[dict[str, Any]]) -> str:
    """Return docs/verified.md."""
    files = [f"{one}.gguf" for one in GGUF] + [f"{one}.onnx" for one in ONNX]
    lines = [
        "# Verified families", "",
        "Random models (two layers, SmolLM3 four; hidden size 256, each family's oddities) tuned",
        "a few steps, merged, exported to every format and verified: `python bench/families.py`.",
        "A cell holds the verdict and the mean KL in nats that the link adds: *merged* against",
        "base + adapter, F32 and fp32 against merged, the others against those.", "",
        "| family | " + " | ".join(["merged", *files]) + " |",
        "|" + " --- |" * (len(files) + 2),
    ]  # fmt: skip
    reasons: list[str] = []
    for row in rows:
        cells = [_cell(row, name, reasons) for name in ["merged", *files]]
        lines.append(f"| {row['family']} | " + " | ".join(cells) + " |")
    if reasons:
        lines += ["", "Refused before any work:", ""]
        lines += [f"{number}. {why}" for number, why in enumerate(reasons, 1)]
    return "\n".join([*lines, ""])


def _cell(row: dict[str, Any], name: str, reasons: list[str]) -> str:
    found = row["cells"].get(name)
    if found:
        kl = "" if found["kl_mean"] is None else f" {found['kl_mean']:.1e}"
        return f"{found['verdict']}{kl}"
    why = row["refused"].get(name) or " ".join(row["refused"].get("all", ["not made"]))
    if why not in reasons:
        reasons.append(why)
    return f"refused ({reasons.index(why) + 1})"


def keep(row: dict[str, Any]) -> None:
    """Append a row to the results, and write the page of every family's newest row."""
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps({**row, "cores": os.cpu_count()}) + "\n")
    found = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    newest = {each["family"]: each for each in found}
    PAGE.write_text(write_page([newest[n] for n in FAMILIES if n in newest]), encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=FAMILIES, action="append")
    parser.add_argument("--quick", action="store_true", help="two steps; nothing is kept")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    args = parser.parse_args()
    rows = []
    for name in args.family or FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            row = run_family(name, Path(folder), 2 if args.quick else 12)
        print(json.dumps(row), file=sys.stderr, flush=True)
        rows.append(row)
        if not args.quick:
            keep(row)
    if args.json:
        verdicts = [one["verdict"] for row in rows for one in row["cells"].values()]
        print(json.dumps({"cells": len(verdicts), "failed": verdicts.count("fail")}))


if __name__ == "__main__":
    main()
