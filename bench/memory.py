"""Weigh and time `edgetune quantize` and `export` on a random model of 500 M, beside llama.cpp's.

    python bench/memory.py --json

Needs the assets' tokenizers (EDGETUNE_ASSETS, or ../shared/assets): a small vocabulary in their
place would be another model. The peer is llama.cpp's converter (the one auto-round carries) to
BF16 and `llama-quantize` with the same importance matrix, each in a process of its own; its folder
is named by LLAMA_CPP_TOOLS.
Prints the peak resident memory and the seconds of both stages as a user runs them, and the seconds
of the same work alone, from safetensors to a Q4_K_M file, in interleaved pairs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
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

RESULTS = ROOT / "bench" / "results" / "memory.jsonl"
#: Both have 500 M parameters: most of them in layers, or a third of them in a tied embedding of
#: 151,646 tokens.
SHAPES: dict[str, dict[str, Any]] = {
    "gpt2:bpe": {"intermediate_size": 4096, "num_hidden_layers": 26},
    "qwen2.5:qwen": {
        "intermediate_size": 3072, "num_hidden_layers": 28, "tie_word_embeddings": True
    },
}  # fmt: skip
DEVICES = "embedded:devices/"

# The same work as the peer's two programs, by the functions that the stage `export` calls.
WRITE = """\
import sys
from pathlib import Path
from edgetune.export.gguf.f32 import open_model
from edgetune.export.gguf.write import Quantization, write_gguf
from edgetune.export.gguf.header import header_of
from edgetune.models.hardware import trim_malloc
from edgetune.quantize.calibration.imatrix import read_imatrix
from edgetune.quantize.plan import read_plan
model, plan, target, scheme = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
source = open_model(model, target.with_suffix(".frame"), header_of(model, "bench"))
types = read_plan(plan).gguf[scheme]
trim_malloc()
write_gguf(source, target, Quantization(scheme, types, read_imatrix(plan / "imatrix.gguf")))
"""
# llama.cpp's converter as its own script calls it.
CONVERT = """\
import sys
from pathlib import Path
import gguf
from edgetune.export.gguf.converter import load_conversion
folder, target, kind = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
conversion = load_conversion()
parts = conversion.ModelBase.load_hparams(folder, False)
made = conversion.get_model_class(parts["architectures"][0])
made(folder, gguf.LlamaFileType[kind], target).write()
"""


def make_model(folder: Path, tokenizer: str, layers: int | None = None) -> Path:
    """Save a random Llama in bfloat16 around a tokenizer of the assets."""
    import torch
    from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

    from tests.tiny_models import put_tokenizer

    assets = Path(os.environ.get("EDGETUNE_ASSETS", "../shared/assets"))
    if not (assets / "tokenizers").is_dir():
        raise SystemExit(f"no assets at {assets}: set EDGETUNE_ASSETS")
    folder.mkdir(parents=True)
    put_tokenizer(tokenizer, folder)
    known = AutoTokenizer.from_pretrained(folder)
    shape = SHAPES[tokenizer]
    config = LlamaConfig(
        vocab_size=len(known), hidden_size=1024, num_attention_heads=16, num_key_value_heads=8,
        head_dim=64, max_position_embeddings=2048, bos_token_id=known.bos_token_id,
        eos_token_id=known.eos_token_id, pad_token_id=known.pad_token_id, dtype="bfloat16",
        **(shape | ({"num_hidden_layers": layers} if layers else {})),
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    ends = {"eos_token_id": known.eos_token_id, "pad_token_id": known.pad_token_id}
    GenerationConfig(bos_token_id=known.bos_token_id, **ends).save_pretrained(folder)
    return folder


def run(command: list[str]) -> dict[str, float]:
    """Run a command in a process of its own; return its seconds, CPU seconds and peak memory."""
    script = [sys.executable, str(Path(__file__)), "--child", json.dumps(command)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"}
    done = subprocess.run(script, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)[:200]}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(" ".join(map(str, command))[:100].replace("\n", " "), found, file=sys.stderr, flush=True)
    return found


def be_child(command: list[str]) -> None:
    """Run one command and print what it took: a process's children are its own peak's measure."""
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    seconds = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.stderr.write(done.stderr.decode("utf-8", "replace")[-4000:])
        raise SystemExit(done.returncode)
    print(json.dumps({
        "seconds": round(seconds, 2), "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_mb": round(used.ru_maxrss * 1024 / 1e6, 1),
    }))  # fmt: skip


def stage(name: str, model: Path, out: Path, more: list[str], scheme: str) -> dict[str, float]:
    """Run a stage as a user does."""
    return run(
        [sys.executable, "-m", "edgetune", name, "--model", str(model), "--data",
         f"{DEVICES}train.jsonl", "--validation", f"{DEVICES}validation.jsonl", "--test",
         f"{DEVICES}test.jsonl", "--scheme", scheme, "--out", str(out), "--quiet", *more]
    )  # fmt: skip


def hash_tensors(path: Path) -> str:
    """Return the SHA-256 of all tensors' names, types and bytes, in the order of their names."""
    from gguf import GGUFReader

    whole = hashlib.sha256()
    for tensor in sorted(GGUFReader(path).tensors, key=lambda one: one.name):
        whole.update(f"{tensor.name} {tensor.tensor_type.name}".encode())
        whole.update(tensor.data.tobytes())
    return whole.hexdigest()


def compare(
    model: Path, plan: Path, folder: Path, scheme: str, tools: Path, pairs: int
) -> dict[str, Any]:
    """Write the file by both ways in turn; their tensors must be the same bytes."""
    ours, wide, theirs = folder / "ours.gguf", folder / "wide.gguf", folder / "theirs.gguf"
    write = [sys.executable, "-c", WRITE, str(model), str(plan), str(ours), scheme]
    convert = [sys.executable, "-c", CONVERT, str(model), str(wide), "MOSTLY_BF16"]
    imatrix = ["--imatrix", str(plan / "imatrix.gguf")]
    threads = str(len(os.sched_getaffinity(0)))
    narrow = [str(tools / "llama-quantize"), *imatrix, str(wide), str(theirs), scheme, threads]
    rows: dict[str, list[dict[str, float]]] = {"ours": [], "convert": [], "quantize": []}
    for number in range(pairs):
        for side in ("ours", "theirs") if number % 2 == 0 else ("theirs", "ours"):
            for path in (ours,) if side == "ours" else (wide, theirs):
                path.unlink(missing_ok=True)
            if side == "ours":
                rows["ours"].append(run(write))
            else:
                rows["convert"].append(run(convert))
                rows["quantize"].append(run(narrow))
    found: dict[str, Any] = {
        name: {key: statistics.median(one[key] for one in some) for key in some[0]}
        for name, some in rows.items()
    }
    both = zip(rows["convert"], rows["quantize"], strict=True)
    sums = [a["seconds"] + b["seconds"] for a, b in both]
    ratios = [a["seconds"] / b for a, b in zip(rows["ours"], sums, strict=True)]
    found["peer_seconds"] = round(statistics.median(sums), 2)
    found["seconds_over_peer"] = round(statistics.median(ratios), 3)
    found["pairs"] = [
        [a["seconds"], b["seconds"], c["seconds"]]
        for a, b, c in zip(rows["ours"], rows["convert"], rows["quantize"], strict=True)
    ]
    found["same_tensors"] = hash_tensors(ours) == hash_tensors(theirs)
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", choices=tuple(SHAPES), default="qwen2.5:qwen")
    parser.add_argument("--scheme", default="Q4_K_M")
    parser.add_argument("--pairs", type=int, default=3, help="of the comparison with llama.cpp")
    parser.add_argument("--rows", type=int, default=256, help="of calibration")
    parser.add_argument("--quick", action="store_true", help="two layers, one pair, no row kept")
    parser.add_argument("--note", default="", help="kept in the row, such as what else was running")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        be_child(json.loads(args.child))
        return
    tools = os.environ.get("LLAMA_CPP_TOOLS")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = make_model(folder / "model", args.tokenizer, 2 if args.quick else None)
        weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
        plan, out = folder / "plan", folder / "files"
        rows = ["--set", f"quantize.calibration_rows={args.rows}"]
        quantized = stage("quantize", model, plan, rows, args.scheme)
        exported = stage("export", model, out, ["--plan", str(plan)], args.scheme)
        row: dict[str, Any] = {
            "tokenizer": args.tokenizer, "scheme": args.scheme, "parameters": weights // 2,
            "cores": len(os.sched_getaffinity(0)), "commit": commit(), "note": args.note,
            "calibration_rows": args.rows,
            "quantize": quantized, "export": exported,
            "peak_mb": max(quantized["peak_mb"], exported["peak_mb"]),
            "seconds": round(quantized["seconds"] + exported["seconds"], 2),
        }  # fmt: skip
        if tools and args.pairs:
            pairs = 1 if args.quick else args.pairs
            row["writing"] = compare(model, plan, folder, args.scheme, Path(tools), pairs)
    if not args.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a") as kept:
            kept.write(json.dumps(row) + "\n")
    print(json.dumps(row))


def commit() -> str:
    """Return the commit that is measured."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
