"""Which settings of distilling matter: one changed at a time, on real text, several seeds.

    python bench/distill_ablation.py --json

The teacher is stories260K; its student keeps 3 of 5 layers and is trained whole on TinyStories.
Each row has the student's KL to the teacher and its perplexity on 100 held-out stories, means over
seeds. Needs the assets.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np  # noqa: E402 - the root is known now
import torch  # noqa: E402

from bench.distill import ORIGIN, QUIET, read_stories  # noqa: E402
from edgetune.distill.cache import Settings, fill_cache  # noqa: E402
from edgetune.distill.losses import CachedKD, loss_of  # noqa: E402
from edgetune.distill.prune_depth import choose_layers, cut_depth  # noqa: E402
from edgetune.distill.teacher import TorchTeacher  # noqa: E402
from edgetune.models.head import find_head  # noqa: E402
from edgetune.models.load import load_base  # noqa: E402
from edgetune.ops import choose  # noqa: E402
from edgetune.train.distillation.trainer import Rows, collate  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "distill_ablation.jsonl"
DEFAULT: dict[str, Any] = {
    "kl_weight": 0.8, "kl_warmup": 0.0, "temperature": 1.0, "targets": "sample", "kept": 64,
}  # fmt: skip
VARIANTS: tuple[dict[str, Any], ...] = (
    {}, {"kl_weight": 0.0}, {"kl_weight": 0.5}, {"kl_weight": 1.0}, {"kl_warmup": 0.3},
    {"temperature": 2.0}, {"kept": 16}, {"kept": 255}, {"targets": "top_k", "kept": 20},
)  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="five steps; nothing is kept")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    args = parser.parse_args()
    steps, seeds = (5, 1) if args.quick else (args.steps, args.seeds)
    train, judged, base = read_stories(600)
    teacher = load_base(base, False, "float32", "cpu").eval()
    wanted = dict(TorchTeacher(teacher).score(judged))
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        layers, _ = choose_layers(teacher, judged[:16], 3)
        cut_depth(base, layers, folder / "student")
        for change in VARIANTS:
            settings = {**DEFAULT, **change}
            found = [
                train_one(settings, seed, steps, train, judged, wanted, teacher, folder)
                for seed in range(seeds)
            ]
            kl, loss = zip(*found, strict=True)
            row = {
                "change": change, "kl": statistics.mean(kl), "kls": kl,
                "perplexity": float(np.exp(statistics.mean(loss))), "steps": steps,
            }  # fmt: skip
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append(row)
    if not args.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    print(json.dumps({"rows": rows}))


def train_one(
    settings: dict[str, Any], seed: int, steps: int, train: Any, judged: Any, wanted: Any,
    teacher: Any, folder: Path,
) -> tuple[float, float]:  # fmt: skip
    """Return the student's KL to the teacher and its cross-entropy, nats a held-out token."""
    kept = Settings(settings["targets"], settings["kept"], settings["temperature"], seed)
    name = f"{settings['targets']}-{settings['kept']}-{settings['temperature']}-{seed}"
    cache = fill_cache(TorchTeacher(teacher), train, kept, ORIGIN, folder / name, QUIET)
    loss = CachedKD(cache, choose("sparse_loss"), settings["kl_weight"], settings["kl_warmup"])
    student = load_base(folder / "student", False, "float32", "cpu").train()
    head = find_head(student)
    optimizer = torch.optim.AdamW(student.parameters(), 2e-3, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    data = Rows(train, cache)
    order = np.random.default_rng(seed).permutation(np.tile(np.arange(len(train)), 50))
    for number in range(steps):
        loss.prepare(number / steps)
        batch = collate([data[int(n)] for n in order[number * 8 : number * 8 + 8]], 0)
        total, count = loss_of(student, head, batch, loss)
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    student.eval()
    far = wrong = 0.0
    positions = 0
    for index, logits_NV in TorchTeacher(student).score(judged):
        log_p, log_q = wanted[index].log_softmax(-1), logits_NV.log_softmax(-1)
        labels = torch.tensor(judged[index].ids[1:])
        far += float((log_p.exp() * (log_p - log_q)).sum())
        wrong -= float(log_q.gather(1, labels[:, None]).sum())
        positions += len(labels)
    return far / positions, wrong / positions


if __name__ == "__main__":
    main()
