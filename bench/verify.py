"""Time `edgetune verify` on two 50 M models, and decide a merge over several shards.

    python bench/verify.py --json

Prints ``verify_s`` (folder against folder, and folder against its F32 file, over 20,000 tokens) and
``merge_peak_over_largest_shard``: what the merge takes above the memory of its process before it,
as a multiple of the largest shard.
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

RESULTS = ROOT / "bench" / "results" / "verify.jsonl"
SIZES = {"hidden_size": 640, "intermediate_size": 1728, "num_hidden_layers": 9}

MERGE = """\
import sys
from pathlib import Path
import bitsandbytes, peft, torch, transformers  # what a merge imports is the runtime's own
from edgetune.measure.latency import peak_rss_bytes
from edgetune.models.merge import write_merged
base, adapter, out = map(Path, sys.argv[1:])
torch.ones(64, 8) @ torch.ones(8, 64)  # and so are the buffers of the first product
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
before = int(status["VmRSS"].split()[0]) * 1024
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
write_merged(base, [adapter], out, "float32")
print(peak_rss_bytes() - before)
"""


def make_model(folder: Path, seed: int, shard: str | None = None) -> Path:
    """Save a random Llama of about 50 M parameters with the embedded base's tokenizer."""
    import shutil

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from edgetune.models.resolve import resolve_model

    source = resolve_model("embedded:base")
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (source / name).is_file():
            shutil.copy(source / name, folder / name)
    config = LlamaConfig(
        **json.loads((source / "config.json").read_text())
        | SIZES | {"num_attention_heads": 10, "num_key_value_heads": 10, "head_dim": 64,
                   "max_position_embeddings": 2048},
    )  # fmt: skip
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    shutil.copy(source / "generation_config.json", folder / "generation_config.json")
    return folder


def time_verify(a: str, b: str, data: Path, tokens: int) -> dict[str, Any]:
    """Run the command and return its seconds and what it judged."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "edgetune", "verify", a, b, "--data", str(data),
         "--tokens", str(tokens), "--json", "--quiet"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    found = json.loads(done.stdout.strip().splitlines()[-1])
    weights = next(one for one in found["checks"] if one["name"] == "weights")["figures"]
    return {
        "seconds": round(seconds, 1), "exit_code": done.returncode,
        "positions": weights["positions"], "kl_mean": weights["kl_mean"],
    }  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    args = parser.parse_args()
    from edgetune.export.gguf.f32 import convert_gguf
    from edgetune.export.gguf.header import header_of
    from tests.tiny_models import make_adapter

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = make_model(folder / "model", 0, shard="40MB")
        parameters = sum(f.stat().st_size for f in model.glob("*.safetensors")) // 4
        adapter = make_adapter(model, folder / "adapter")
        out = folder / "merged"
        grown = int(
            subprocess.run(
                [sys.executable, "-c", MERGE, str(model), str(adapter), str(out)],
                cwd=ROOT, capture_output=True, text=True, check=True,
            ).stdout
        )  # fmt: skip
        shards = sorted(f.stat().st_size for f in model.glob("*.safetensors"))
        file = folder / "F32.gguf"
        convert_gguf(out, file, header_of(out, "bench"))
        text = (ROOT / "docs" / "LOG.md").read_text() + (ROOT / "README.md").read_text()
        data = folder / "text.jsonl"
        size = 1200
        parts = [text[at : at + size] for at in range(0, len(text), size)]
        rows = [{"text": f"{number} {part}"} for number in range(8) for part in parts]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        trained = f"{model}+{adapter}"
        row: dict[str, Any] = {
            "parameters": parameters, "cores": os.cpu_count(),
            "shards": len(shards), "largest_shard": shards[-1], "merge_grown": grown,
            "merge_peak_over_largest_shard": round(grown / shards[-1], 3),
            "trained_against_merged": time_verify(trained, str(out), data, args.tokens),
            "merged_against_f32": time_verify(str(out), str(file), data, args.tokens),
        }  # fmt: skip
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as kept:
        kept.write(json.dumps(row) + "\n")
    row["verify_s"] = max(
        row[key]["seconds"] for key in ("trained_against_merged", "merged_against_f32")
    )
    print(json.dumps(row))


if __name__ == "__main__":
    main()
