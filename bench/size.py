"""Run stages at the sizes people use, and compare what they took with what `edgetune plan` said.

    python bench/size.py --shape qwen2.5-0.5b --json
    python bench/size.py --shape llama-50m --stages tune --set tune.batch_size=8

Weights are random, shapes and tokenizer are real; needs the assets' tokenizers (EDGETUNE_ASSETS, or
../shared/assets). Each stage is a process of its own, as a user runs it; its peak is that of the
largest process of its tree. Rows go to bench/results/size.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

RESULTS = ROOT / "bench" / "results" / "size.jsonl"
STAGES = ("tune", "merge", "quantize", "export", "bench")
SAMPLE_SECONDS = 0.2
#: Widths of published configurations; layers may be cut by --layers.
SHAPES: dict[str, dict[str, Any]] = {
    "qwen2.5-0.5b": {
        "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864,
        "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
        "vocab_size": 151936, "tie_word_embeddings": True,
    },
    "llama-50m": {
        "model_type": "llama", "hidden_size": 512, "intermediate_size": 1408,
        "num_hidden_layers": 12, "num_attention_heads": 8, "num_key_value_heads": 4,
        "vocab_size": 32064, "tie_word_embeddings": False,
    },
    "llama-8b": {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "vocab_size": 128256, "tie_word_embeddings": False,
    },
}  # fmt: skip
TOKENIZERS = {
    "qwen2.5-0.5b": "qwen2.5:qwen",
    "llama-50m": "phi-3-mini:phi",
    "llama-8b": "phi-3-mini:phi",
}


def make_model(shape: str, folder: Path, layers: int | None) -> Path:
    """Save a random model of a real shape in bfloat16, a tensor at a time."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    from tests.tiny_models import put_tokenizer

    folder.mkdir(parents=True)
    put_tokenizer(TOKENIZERS[shape], folder)
    known = AutoTokenizer.from_pretrained(folder)
    settings = dict(SHAPES[shape])
    if layers:
        settings["num_hidden_layers"] = layers
    ends = {"eos_token_id": known.eos_token_id, "pad_token_id": known.pad_token_id}
    config = AutoConfig.for_model(
        **settings, max_position_embeddings=32768, bos_token_id=None, dtype="bfloat16", **ends
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    model = AutoModelForCausalLM.from_config(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    GenerationConfig(**ends).save_pretrained(folder)
    return folder


def make_rows(path: Path, rows: int, words: int) -> Path:
    """Write rows whose prompts and answers are sentences of so many words."""
    import random

    pick = random.Random(0)
    sentence = "the quick brown fox jumps over a lazy dog while seven wizards mix toxic paint"
    known = sentence.split(" ")
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            some = " ".join(pick.choices(known, k=pick.randint(words // 2, words)))
            row = {"prompt": f"{number}: {some}", "completion": " ".join(reversed(some.split()))}
            file.write(json.dumps(row) + "\n")
    return path


def run_measured(command: list[str], log: Path) -> dict[str, float]:
    """Run a command; return its seconds and the largest sum of its processes' resident memory."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"}
    began = time.time()
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
        peaks = {"largest": 0, "sum": 0}
        watcher = threading.Thread(target=_watch, args=(process.pid, peaks), daemon=True)
        watcher.start()
        code = process.wait()
    if code not in (0, 3):  # 3: a gate failed; the files are there
        raise SystemExit(f"{' '.join(command)}\n{log.read_text(errors='replace')[-3000:]}")
    return {
        "began": began, "seconds": round(time.time() - began, 2), "exit_code": code,
        "peak_rss_bytes": peaks["largest"], "tree_rss_bytes": peaks["sum"],
    }  # fmt: skip


def _watch(pid: int, peaks: dict[str, int]) -> None:
    try:
        parent = psutil.Process(pid)
        while parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
            sizes = []
            for process in (parent, *parent.children(recursive=True)):
                try:
                    sizes.append(process.memory_info().rss)
                except psutil.Error:
                    continue
            peaks["largest"] = max(peaks["largest"], *sizes)
            peaks["sum"] = max(peaks["sum"], sum(sizes))
            time.sleep(SAMPLE_SECONDS)
    except psutil.Error:
        return


def first_step_seconds(log: Path, began: float) -> float | None:
    """Return the seconds from the start to the end of the first optimizer step."""
    for line in log.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event.get("event") == "train":
            return round(event["time"] - began, 2)
    return None


def stage_seconds(log: Path, stage: str) -> float:
    """Return what the stage took by its own account: its process also starts, hashes and plans."""
    events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    taken = [one for one in events if one["event"] == "usage" and one["stage"] == stage]
    return float(taken[-1]["seconds"])


def write_recipe(folder: Path, model: Path, rows: Path, stages: list[str]) -> Path:
    """Write the recipe of the stages; nothing in it is usual but the number of steps."""
    import yaml

    content: dict[str, Any] = {
        "name": "size",
        "model": {"path": str(model), "device": "cpu"},
        "data": {"train": str(rows), "max_length": 512},
        "tune": {"max_steps": 2, "batch_size": 1},
        "merge": {"measure_rows": 4},
        "quantize": {"gguf": ["Q8_0", "Q4_K_M"], "onnx": ["int4"], "calibration_rows": 16},
        "export": {"check_rows": 2},
        "bench": {"task_rows": 4, "kl_rows": 4, "max_new_tokens": 16, "repeats": 2},
    }
    kept = {key: value for key, value in content.items() if key not in STAGES or key in stages}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(kept))
    return path


def measure(args: argparse.Namespace, folder: Path) -> None:
    """Plan, then run each stage, and put both beside each other: one row a stage, as it ends."""
    shape = f"{args.shape}-{args.layers or 'all'}"
    model = args.models / shape
    if not model.exists():
        make_model(args.shape, model, args.layers)
    rows = make_rows(folder / "rows.jsonl", args.rows, args.words)
    overrides = list(args.set)
    plan_recipe = write_recipe(folder, model, rows, args.stages)
    edgetune = [sys.executable, "-W", "ignore", "-m", "edgetune"]
    planned = subprocess.run(
        [*edgetune, "plan", str(plan_recipe), *_set(overrides), "--json", *["--fit"] * args.fit],
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    if planned.returncode:
        raise SystemExit(planned.stdout + planned.stderr)
    plan = json.loads(planned.stdout.splitlines()[-1])
    for change in plan["changes"]:
        overrides.append(f"{change['key']}={change['new']}")
    about = {
        "note": args.note, "shape": args.shape, "layers": args.layers,
        "parameters": plan["shape"]["linear"] + plan["shape"]["rest"],
        "set": args.set, "changes": plan["changes"], "machine": plan["machine"],
    }  # fmt: skip
    out = folder / "run"
    for number, stage in enumerate(args.stages):
        recipe = write_recipe(folder, model, rows, args.stages[: number + 1])
        sections = (*args.stages[: number + 1], "model", "data")
        kept = [text for text in overrides if text.split(".")[0] in sections]
        taken = run_measured(
            [*edgetune, "run", str(recipe), "--out", str(out), "--quiet", *_set(kept)],
            folder / f"{stage}.log",
        )
        if stage == "tune":
            taken["first_step_s"] = first_step_seconds(out / "log.jsonl", taken["began"]) or 0.0
        del taken["began"]
        said = next(one for one in plan["stages"] if one["stage"] == stage)
        taken["stage_seconds"] = stage_seconds(out / "log.jsonl", stage)
        taken["planned_ram_bytes"] = said["ram_bytes"]
        taken["planned_seconds"] = round(said["seconds"], 1)
        taken["plan_memory_error"] = round(said["ram_bytes"] / taken["tree_rss_bytes"] - 1, 3)
        taken["plan_time_error"] = round(said["seconds"] / taken["stage_seconds"] - 1, 3)
        row = json.dumps({**about, "stage": stage, **taken})
        print(row if args.json else f"{stage} {json.dumps(taken)}", flush=True)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(row + "\n")


def _set(overrides: list[str]) -> list[str]:
    return [part for text in overrides for part in ("--set", text)]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="qwen2.5-0.5b")
    parser.add_argument("--layers", type=int, help="cut the model to so many")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--words", type=int, default=200, help="most words of a prompt")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--fit", action="store_true", help="with the settings that fit")
    parser.add_argument("--models", type=Path, help="folder that keeps the random models")
    parser.add_argument("--note", default="", help="kept in the row, such as what else was running")
    parser.add_argument("--work", type=Path, help="folder that keeps the run, to go on with it")
    parser.add_argument("--json", action="store_true", help="print each row as one JSON line")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (args.work or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        args.models = (args.models or folder / "models").resolve()
        measure(args, folder)


if __name__ == "__main__":
    main()
