"""QLoRA on this CPU: tokens/s and memory here and through plain TRL + PEFT + bitsandbytes.

    python bench/training_speed.py --shape llama-50m --pairs 3 --json
    python bench/training_speed.py --shape qwen2.5-0.5b --rows 48 --batch 4 --pairs 2 --json

Both sides train the same model (random weights, real shape and tokenizer) on the same rows of real
text: the data of the assets (EDGETUNE_ASSETS) mixed, short commands beside long answers. Batch,
rank, targets, learning rate and seed are the same, one pass each. A side is a process of its own,
in the dtype that is its fastest here; sides take turns. Rate: tokens that are no padding, from
the end of the first step to that of the last. Both are then asked for the loss on the same held-out
rows. On a machine that does other work too, take --threads 1 and the ratio of CPU seconds
(`speedup_cpu`); the share of the matmul peak is by CPU seconds as well. Rows go to
bench/results/training_speed.jsonl.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

RESULTS = ROOT / "bench" / "results" / "training_speed.jsonl"
ASSETS = Path(os.environ.get("EDGETUNE_ASSETS", "../shared/assets"))
DTYPES = ("bfloat16", "float32")
LENGTH, RANK, RATE = 512, 16, 2e-4
HELD_OUT = 32


def read_mix() -> list[dict[str, str]]:
    """Return prompts and answers: commands, sums, instructions, tool calls, conversations."""
    data = ASSETS / "data"
    found: list[list[dict[str, str]]] = []
    with gzip.open(data / "nl2bash/pairs.jsonl.gz", "rt", encoding="utf-8") as file:
        found.append([
            {"prompt": one["instruction"], "completion": one["output"]}
            for one in map(json.loads, file)
        ])  # fmt: skip
    with (data / "gsm8k/test.jsonl").open(encoding="utf-8") as file:
        found.append([
            {"prompt": one["question"], "completion": one["answer"]}
            for one in map(json.loads, file)
        ])  # fmt: skip
    demo = data / "llamafactory-demo"
    alpaca = json.loads((demo / "alpaca_en_demo.json").read_text(encoding="utf-8"))
    found.append([
        {"prompt": f"{one['instruction']}\n{one['input']}".strip(), "completion": one["output"]}
        for one in alpaca
    ])  # fmt: skip
    chats = json.loads((demo / "kto_en_demo.json").read_text(encoding="utf-8"))
    found.append([
        {
            "prompt": "\n".join(turn["content"] for turn in one["messages"][:-1]),
            "completion": one["messages"][-1]["content"],
        }
        for one in chats
    ])  # fmt: skip
    pick = random.Random(0)
    for rows in found:
        pick.shuffle(rows)
    least = min(map(len, found))
    mixed = [row for rows in found for row in rows[:least] if row["completion"].strip()]
    pick.shuffle(mixed)
    return mixed


def encode(model: Path, count: int) -> tuple[list[Any], list[Any]]:
    """Return training rows and held-out rows as tokens with a loss mask."""
    from edgetune.data.build_encoder import make_encoder
    from edgetune.data.encode_rows import encode_rows
    from edgetune.data.rows import Message, Row
    from edgetune.log import Log
    from edgetune.models.tokenizer_files import load_tokenizer
    from edgetune.recipe import DataSection

    encoder = make_encoder(load_tokenizer(model), DataSection(train="mix", max_length=LENGTH), None)
    rows = [
        Row(
            (Message("user", one["prompt"]), Message("assistant", one["completion"])),
            None,
            f"row {number}",
        )
        for number, one in enumerate(read_mix()[: count + HELD_OUT])
    ]
    encoded = encode_rows(encoder, rows, Log(quiet=True), "train", "skip").encoded
    return list(encoded[:-HELD_OUT]), list(encoded[-HELD_OUT:])


class Clock:
    """Counts the tokens of training steps and the seconds between their ends."""

    def __init__(self) -> None:
        #: Of each step's end: seconds, CPU seconds; tokens and positions until then.
        self.steps: list[tuple[float, float, int, int]] = []
        self.tokens = self.positions = 0

    def watch(self) -> None:
        """Look at every step of transformers' trainer, which both sides run."""
        from transformers import Trainer, TrainerCallback
        from transformers import trainer as module

        clock, step = self, Trainer.training_step

        def counted(trainer: Any, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            ids = inputs["input_ids"]
            mask = inputs.get("attention_mask")
            clock.tokens += int(mask.sum()) if mask is not None else ids.numel()
            clock.positions += ids.numel()
            return step(trainer, model, inputs, *rest, **named)

        class Ends(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, *_: Any, **__: Any) -> None:
                now = (time.perf_counter(), time.process_time())
                clock.steps.append((*now, clock.tokens, clock.positions))

        Trainer.training_step = counted
        module.DEFAULT_CALLBACKS.append(Ends)

    def figures(self) -> dict[str, float]:
        """Return rates from the end of the first step to that of the last."""
        taken = [b - a for a, b in zip(self.steps[0], self.steps[-1], strict=True)]
        seconds, cpu_seconds, tokens, positions = taken
        return {
            "seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2),
            "tokens": tokens, "positions": positions,
            "tokens_per_s": round(tokens / seconds, 1),
            "tokens_per_cpu_s": round(tokens / cpu_seconds, 1),
        }  # fmt: skip


def train_here(args: argparse.Namespace, rows: list[Any], folder: Path) -> Any:
    """Train by what `edgetune tune` calls; return the model."""
    from edgetune.log import Log
    from edgetune.models.adapters import add_adapter
    from edgetune.models.load import load_base
    from edgetune.models.tokenizer_files import load_tokenizer
    from edgetune.recipe import TuneSection
    from edgetune.train.inputs import TrainingData, TrainingRun
    from edgetune.train.objectives.sft import tune

    section = TuneSection(
        rank=RANK, alpha=2.0 * RANK, learning_rate=RATE, epochs=1, batch_size=args.batch,
        packing=False, save_every=100_000,
    )  # fmt: skip
    model = add_adapter(load_base(args.model, True, args.dtype, "cpu"), section, args.seed)
    tune(
        model, load_tokenizer(args.model), TrainingData(rows), section, LENGTH,
        TrainingRun("teacher", args.seed, folder, Log(folder / "log.jsonl", quiet=True)),
    )  # fmt: skip
    return model


def train_plain(args: argparse.Namespace, rows: list[Any], folder: Path) -> Any:
    """Train by TRL's documented QLoRA; return the model."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
    from trl import SFTConfig, SFTTrainer

    dtype = getattr(torch, args.dtype)
    model = AutoModelForCausalLM.from_pretrained(
        args.model, dtype=dtype, device_map={"": "cpu"},
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        ),
    )  # fmt: skip
    columns = {
        "input_ids": [list(row.ids) for row in rows],
        "labels": [
            [token if kept else -100 for token, kept in zip(row.ids, row.trained, strict=True)]
            for row in rows
        ],
    }
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(folder), num_train_epochs=1, per_device_train_batch_size=args.batch,
            learning_rate=RATE, lr_scheduler_type="cosine", warmup_steps=0.05, seed=args.seed,
            max_length=LENGTH, use_cpu=True, bf16=args.dtype == "bfloat16", report_to=[],
            save_strategy="no", disable_tqdm=True, logging_steps=100_000,
            gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_dict(columns),
        processing_class=AutoTokenizer.from_pretrained(args.model),
        peft_config=LoraConfig(
            r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )  # fmt: skip
    trainer.train()
    return trainer.model


def held_out_loss(model: Any, rows: list[Any]) -> float:
    """Return the mean cross-entropy over the trained tokens of rows, a row at a time."""
    import torch

    model.eval()
    for module in model.modules():  # bitsandbytes would repack weights for inference
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    total, count = 0.0, 0
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([list(row.ids)])
            at = torch.tensor(list(row.trained[1:]), dtype=torch.bool)
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1][at].float()
            losses = torch.nn.functional.cross_entropy(logits, ids[0, 1:][at], reduction="sum")
            total, count = total + float(losses), count + int(at.sum())
    return total / count


def be_side(args: argparse.Namespace) -> None:
    """Train once in this process and print what it took."""
    rows, held_out = encode(args.model, args.rows)
    clock = Clock()
    clock.watch()
    before = _peak()
    with tempfile.TemporaryDirectory() as folder:
        train = train_here if args.side == "here" else train_plain
        model = train(args, rows, Path(folder))
    peak = _peak()
    found = {
        **clock.figures(), "peak_flops": peak_flops(args.dtype), "dtype": args.dtype,
        "peak_rss_bytes": peak, "before_bytes": before,
        "held_out_loss": round(held_out_loss(model, held_out), 4),
    }  # fmt: skip
    print(json.dumps(found))


def peak_flops(dtype: str) -> float:
    """Return what matrix products reach per CPU second, in this process and in its threads."""
    import torch

    left = torch.randn(1024, 1024).to(getattr(torch, dtype))
    right = torch.randn(1024, 2816).to(left.dtype)
    rates = []
    for _ in range(20):
        began = time.process_time()
        left @ right
        rates.append(2 * 1024 * 1024 * 2816 / (time.process_time() - began))
    return max(rates)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run_side(args: argparse.Namespace, side: str, dtype: str, seed: int) -> dict[str, Any]:
    """Run one side in a process of its own."""
    command = [
        sys.executable, "-W", "ignore", str(Path(__file__)), "--side", side, "--dtype", dtype,
        "--seed", str(seed), "--rows", str(args.rows), "--batch", str(args.batch),
        "--model", str(args.model),
    ]  # fmt: skip
    environment = {
        **os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}",
        "OMP_NUM_THREADS": str(args.threads),
    }  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(side, json.dumps(found), file=sys.stderr, flush=True)
    return found


def fastest_dtype(args: argparse.Namespace, side: str) -> tuple[str, dict[str, float]]:
    """Return the dtype in which a side is faster on the first rows, and its rates in both."""
    few = argparse.Namespace(**{**vars(args), "rows": min(args.rows, 4 * args.batch)})
    rates = {dtype: run_side(few, side, dtype, 0)["tokens_per_cpu_s"] for dtype in DTYPES}
    return max(rates, key=rates.__getitem__), rates


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Take both sides in turn, and put their medians beside each other."""
    sides = ("here", "plain")
    if args.dtypes:
        dtypes = {side: (dtype, {}) for side, dtype in zip(sides, args.dtypes, strict=True)}
    else:
        dtypes = {side: fastest_dtype(args, side) for side in sides}
    runs: dict[str, list[dict[str, Any]]] = {"here": [], "plain": []}
    for number in range(args.pairs):
        for side in ("here", "plain") if number % 2 == 0 else ("plain", "here"):
            runs[side].append(run_side(args, side, dtypes[side][0], number))
    pairs = list(zip(runs["here"], runs["plain"], strict=True))
    flops = step_flops(args, dtypes["here"][0])
    found: dict[str, Any] = {
        "rates_by_dtype": {side: rates for side, (_, rates) in dtypes.items()},
        "speedup": round(_median(a["tokens_per_s"] / b["tokens_per_s"] for a, b in pairs), 3),
        "speedup_cpu": round(
            _median(a["tokens_per_cpu_s"] / b["tokens_per_cpu_s"] for a, b in pairs), 3
        ),
        "rss_ratio": round(_median(a["peak_rss_bytes"] / b["peak_rss_bytes"] for a, b in pairs), 3),
    }
    for side, some in runs.items():
        names = (
            "tokens_per_s",
            "tokens_per_cpu_s",
            "peak_rss_bytes",
            "held_out_loss",
            "positions",
            "tokens",
        )
        found[side] = {name: _median(one[name] for one in some) for name in names}
        found[side]["dtype"] = some[0]["dtype"]
        found[side]["runs"] = some
        shares = (one["positions"] * flops / one["cpu_seconds"] / one["peak_flops"] for one in some)
        found[side]["share_of_matmul_peak"] = round(_median(shares), 4)
    losses = [[one["held_out_loss"] for one in some] for some in runs.values()]
    found["loss_difference"] = round(statistics.mean(losses[0]) - statistics.mean(losses[1]), 4)
    found["loss_spread"] = round(max(max(some) - min(some) for some in losses), 4)
    return found


def step_flops(args: argparse.Namespace, dtype: str) -> float:
    """Return the operations of matrix products per position: layers, forward and backward.

    The head, which is run at trained positions only, is left out.
    """
    from edgetune.plan.trace import StepSettings, read_config, trace_step
    from edgetune.recipe import TuneSection

    settings = StepSettings(TuneSection(rank=RANK), True, dtype, 1, LENGTH)
    return trace_step(read_config(args.model), settings).flops / LENGTH


def _median(values: Any) -> float:
    return float(statistics.median(values))


def main() -> None:
    """Command line."""
    from bench.size import SHAPES, make_model

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="llama-50m")
    parser.add_argument("--rows", type=int, default=256, help="of training")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--dtypes", nargs=2, choices=DTYPES, metavar=("HERE", "PLAIN"),
        help="where it is known which is the faster of each side",
    )  # fmt: skip
    parser.add_argument("--models", type=Path, help="folder that keeps the random models")
    parser.add_argument("--note", default="", help="kept in the row, such as what else was running")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    for name in ("--side", "--dtype"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        be_side(args)
        return
    with tempfile.TemporaryDirectory() as scratch:
        args.model = (args.models or Path(scratch)) / f"{args.shape}-all"
        if not args.model.exists():
            make_model(args.shape, args.model, None)
        row = {
            "shape": args.shape, "threads": args.threads, "rows": args.rows, "batch": args.batch,
            "rank": RANK, "note": args.note, **measure(args),
        }  # fmt: skip
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    if args.json:
        name = {"llama-50m": "50m", "qwen2.5-0.5b": "500m"}.get(args.shape, args.shape)
        figures = {f"speedup_{name}": row["speedup"], f"rss_ratio_{name}": row["rss_ratio"]}
        print(json.dumps({**row, **figures}))


if __name__ == "__main__":
    main()
