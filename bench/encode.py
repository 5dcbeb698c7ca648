"""Time rendering and tokenizing of rows, and how long a run takes to its first optimizer step.

    python bench/encode.py --json

Needs the assets (EDGETUNE_ASSETS, or ../shared/assets): Qwen 2.5's tokenizer, as users have it, and
the words of TinyStories, as they stand there: half of the time is the tokenizer's own, which keeps
the words it has seen, so that words drawn at random would take half as long again.
Prints, for rows of about 300 tokens with one answer and with ten turns, the CPU milliseconds a row
(this process and the one that renders), the minutes of a million such rows, and the bytes that an
encoded row holds a token; and the seconds from the start of `edgetune tune` on 4,000 rows to its
first optimizer step, with a random Llama of 55 M parameters.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

RESULTS = ROOT / "bench" / "results" / "encode.jsonl"
ASSETS = Path(os.environ.get("EDGETUNE_ASSETS", ROOT.parent / "shared" / "assets"))
MILLION = 1_000_000
#: 55 M parameters, of which 38.9 M are a tied embedding of 151,936 tokens.
SHAPE = {
    "hidden_size": 256, "intermediate_size": 1408, "num_hidden_layers": 12,
    "num_attention_heads": 8, "num_key_value_heads": 8, "tie_word_embeddings": True,
    "max_position_embeddings": 2048, "vocab_size": 151_936,
}  # fmt: skip
# As Qwen 2.5 writes a conversation without tools.
TEMPLATE = (
    "{%- if messages[0]['role'] == 'system' %}"
    "{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}"
    "{%- endif %}{%- for message in messages %}"
    "{%- if (message.role == 'user') or (message.role == 'system' and not loop.first) or "
    "(message.role == 'assistant' and not message.tool_calls) %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def make_tokenizer(folder: Path) -> Path:
    """Unpack the tokenizer into a folder, with a chat template."""
    source = ASSETS / "tokenizers" / "qwen2.5"
    folder.mkdir(parents=True)
    packed = (source / "tokenizer.json.gz").read_bytes()
    (folder / "tokenizer.json").write_bytes(gzip.decompress(packed))
    config = json.loads((source / "tokenizer_config.json").read_text(encoding="utf-8"))
    config |= {"chat_template": TEMPLATE, "eos_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def write_rows(path: Path, count: int, turns: int, words: list[str]) -> None:
    """Write rows of ``turns`` turns of running text, about 300 tokens each in all."""
    chance = random.Random(turns)
    each = 230 // turns

    def cut() -> str:
        at = chance.randrange(len(words) - each)
        return " ".join(words[at : at + each])

    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            messages = [
                {
                    "role": "assistant" if turn % 2 else "user",
                    "content": cut(),
                }
                for turn in range(turns)
            ]
            file.write(json.dumps({"messages": messages}) + "\n")


def cpu_seconds() -> float:
    """CPU seconds of this process and of those it waited for."""
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def time_encoding(folder: Path, path: Path) -> dict[str, Any]:
    """Encode the rows of a file as a stage does."""
    from edgetune.data.build_encoder import make_encoder
    from edgetune.data.dataset.make import load_splits
    from edgetune.data.encode_rows import encode_rows
    from edgetune.log import Log
    from edgetune.models.tokenizer_files import load_tokenizer
    from edgetune.recipe import DataSection
    from edgetune.runtimes import template

    section = DataSection(train=str(path), validation_fraction=0.001, max_length=1024)
    rows = load_splits(section, 0, Log(quiet=True)).train
    encoder = make_encoder(load_tokenizer(folder), section, None)
    template._renderer.stop()
    began, cpu = time.monotonic(), cpu_seconds()
    encoded = encode_rows(encoder, rows, Log()).encoded
    template._renderer.stop()  # waited for, so that its CPU time is counted
    seconds, cpu = time.monotonic() - began, cpu_seconds() - cpu
    tokens = sum(len(row.ids) for row in encoded)
    held = sum(sum(map(sys.getsizeof, (row, row.ids, row.trained))) for row in encoded)
    return {
        "rows": len(rows), "tokens_per_row": round(tokens / len(rows), 1),
        "cpu_ms_per_row": round(1000 * cpu / len(rows), 3),
        "wall_ms_per_row": round(1000 * seconds / len(rows), 3),
        "cpu_minutes_per_million": round(cpu / len(rows) * MILLION / 60, 2),
        "bytes_per_token": round(held / tokens, 2),
    }  # fmt: skip


def make_model(folder: Path) -> int:
    """Write a random Llama beside the tokenizer and return its parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, bos_token_id=None, eos_token_id=151_645))
    model.to(torch.bfloat16).save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def time_first_step(model: Path, rows: Path, out: Path) -> dict[str, Any]:
    """Run `edgetune tune` to its first step, of 8 rows, and return its seconds."""
    command = [
        sys.executable, "-m", "edgetune", "tune", "--model", str(model), "--data", str(rows),
        "--out", str(out), "--set", "tune.max_steps=1", "--set", "tune.packing=false",
        "--set", "data.validation_fraction=0.001", "--set", "tune.eval_every=100",
    ]  # fmt: skip
    before, began, first = cpu_seconds(), time.monotonic(), None
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stderr is not None
    progress = None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "encode train" in line and progress is None:
            progress = time.monotonic() - began
        if " 1/1 " in line and "teacher" in line and first is None:
            first = time.monotonic() - began
    if process.wait() or first is None:
        raise SystemExit("".join(lines))
    return {
        "rows": sum(1 for _ in rows.open()), "seconds_to_first_step": round(first, 2),
        "seconds_to_first_bar": round(progress, 2) if progress else None,
        "cpu_seconds": round(cpu_seconds() - before, 2), "cores": len(os.sched_getaffinity(0)),
    }  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="that are encoded")
    parser.add_argument("--start-rows", type=int, default=4_000, help="of the run's data")
    parser.add_argument("--quick", action="store_true", help="500 rows, no run, no row kept")
    parser.add_argument("--note", default="", help="kept in the row, such as what else was running")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    args = parser.parse_args()
    count = 500 if args.quick else args.rows
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT
    ).stdout.strip()
    row: dict[str, Any] = {"commit": commit, "note": args.note}
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_tokenizer(Path(scratch) / "model")
        stories = ASSETS / "data" / "tinystories" / "tinystories_val_sample.txt"
        words = stories.read_text(encoding="utf-8").split()
        for name, turns in (("one_answer", 2), ("ten_turns", 10)):
            path = Path(scratch) / f"{name}.jsonl"
            write_rows(path, count, turns, words)
            row[name] = time_encoding(folder, path)
        if not args.quick:
            row["parameters"] = make_model(folder)
            path = Path(scratch) / "start.jsonl"
            write_rows(path, args.start_rows, 2, words)
            row["start"] = time_first_step(folder, path, Path(scratch) / "out")
    if not args.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a") as kept:
            kept.write(json.dumps(row) + "\n")
    print(json.dumps(row))


if __name__ == "__main__":
    main()
