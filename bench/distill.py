"""What distilling costs: a step, the cache, the loss's memory, against TRL, against the dense loss.

    python bench/distill.py --json
    python bench/distill.py --quick --json

Ends with ``step_ratio`` (a step from the cache over a plain cross-entropy step of transformers),
``bytes_per_token``, ``loss_memory_bytes`` (vocabulary 152,064, 2,048 positions), ``speedup_vs_trl``
(tokens/s of later epochs over TRL's with the teacher resident) and ``kl_ratio_vs_dense``. Times
are medians of interleaved pairs. Needs the assets for the real text.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np  # noqa: E402 - the root is known now
import torch  # noqa: E402

from edgetune.data.encode import Encoded  # noqa: E402
from edgetune.distill.cache import Cache, Origin, Settings, fill_cache  # noqa: E402
from edgetune.distill.losses import (  # noqa: E402
    CachedKD,
    CrossEntropy,
    Divergence,
    KDWeight,
    OnlineKD,
    loss_of,
)
from edgetune.distill.prune_depth import choose_layers, cut_depth  # noqa: E402
from edgetune.distill.teacher import TorchTeacher  # noqa: E402
from edgetune.log import Log  # noqa: E402
from edgetune.models.head import find_head  # noqa: E402
from edgetune.models.load import load_base  # noqa: E402
from edgetune.models.tokenizer_files import load_tokenizer  # noqa: E402
from edgetune.ops import choose  # noqa: E402
from edgetune.train.distillation.trainer import Rows, collate  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "distill.jsonl"
ASSETS = Path(os.environ.get("EDGETUNE_ASSETS", ROOT.parent / "shared" / "assets"))
QUIET = Log(None, quiet=True)
PARTS = ("step", "memory", "bytes", "trl", "dense")
ORIGIN = Origin("bench", "bench", "bench")


def make_llama(layers: int, hidden: int, vocabulary: int, seed: int = 0) -> Any:
    """Return a random Llama whose head is sharp enough to be about as sure as a trained one."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary, hidden_size=hidden, intermediate_size=hidden * 8 // 3 // 32 * 32,
            num_hidden_layers=layers, num_attention_heads=hidden // 64,
            num_key_value_heads=hidden // 64, max_position_embeddings=2048,
            tie_word_embeddings=False,
        )
    )  # fmt: skip
    with torch.no_grad():
        model.lm_head.weight.mul_(8.0)
    return model


def make_rows(count: int, length: int, vocabulary: int) -> list[Encoded]:
    """Return rows of random tokens; the second half of each is trained, as answers are."""
    generator = np.random.default_rng(0)
    trained = [at >= length // 2 for at in range(length)]
    return [
        Encoded(generator.integers(3, vocabulary, length).tolist(), trained, False)
        for _ in range(count)
    ]


def time_pairs(a: Callable[[], Any], b: Callable[[], Any], pairs: int) -> dict[str, Any]:
    """Return medians of both and of the ratio a / b, run A B B A."""
    seconds: dict[str, list[float]] = {"a": [], "b": []}
    for number in range(pairs):
        order = (("a", a), ("b", b)) if number % 2 == 0 else (("b", b), ("a", a))
        for name, run in order:
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    ratios = [x / y for x, y in zip(seconds["a"], seconds["b"], strict=True)]
    return {
        "a_s": statistics.median(seconds["a"]), "b_s": statistics.median(seconds["b"]),
        "ratio": statistics.median(ratios), "pairs": pairs,
    }  # fmt: skip


def measure_step(vocabulary: int, pairs: int, folder: Path) -> dict[str, Any]:
    """Compare a whole step (rows, loss, backward, AdamW) from the cache and without a teacher."""
    rows = make_rows(32, 256, vocabulary)
    teacher = TorchTeacher(make_llama(2, 256, vocabulary, seed=1).eval())
    cache = fill_cache(teacher, rows, Settings(), ORIGIN, folder / f"step-{vocabulary}", QUIET)
    student = make_llama(6, 384, vocabulary)
    optimizer = torch.optim.AdamW(student.parameters(), 1e-4, fused=True)
    head = find_head(student)
    sparse = choose("sparse_loss")
    cached, answers = CachedKD(cache, sparse, 0.8, 0.0), CrossEntropy(sparse)
    numbers = iter(range(1 << 30))

    def batch(kept: Cache | None) -> dict[str, torch.Tensor]:
        data, first = Rows(rows, kept), next(numbers) * 8
        return collate([data[(first + at) % len(rows)] for at in range(8)], 0)

    def step(total: torch.Tensor, count: int) -> None:
        (total / count).backward()
        optimizer.step()
        optimizer.zero_grad()

    def plain() -> None:  # as transformers' Trainer has it: logits of every position
        given = batch(None)
        labels_BT = torch.full_like(given["labels"], -100)
        labels_BT[:, 1:] = given["labels"][:, :-1]
        loss = student(
            input_ids=given["input_ids"], attention_mask=given["attention_mask"], labels=labels_BT
        ).loss
        step(loss, 1)

    def ours() -> None:
        step(*loss_of(student, head, batch(None), answers))

    def taught() -> None:
        step(*loss_of(student, head, batch(cache), cached))

    for run in (plain, ours, taught):
        run()
    against_plain = time_pairs(taught, plain, pairs)
    against_ours = time_pairs(taught, ours, pairs)
    return {
        "vocabulary": vocabulary, "step_ratio": against_plain["ratio"],
        "cached_s": against_plain["a_s"], "plain_s": against_plain["b_s"],
        "ratio_to_own_cross_entropy": against_ours["ratio"],
        "cache_bytes_per_token": cache.bytes / cache.positions, "pairs": pairs,
    }  # fmt: skip


MEMORY = """\
import sys
import torch
sys.path.insert(0, {root!r})
from pathlib import Path
from edgetune.measure.latency import peak_rss_bytes
from edgetune.ops import choose
from edgetune.ops.linear_loss import Head, linear_loss_sum
from edgetune.ops.sparse_loss import SparseTargets
positions, vocabulary, hidden = 2048, 152_064, 512
trained_head = sys.argv[1] == "1"
torch.manual_seed(0)
h = torch.randn(positions, hidden, requires_grad=True)
w = torch.randn(vocabulary, hidden, requires_grad=trained_head)
labels = torch.randint(0, vocabulary, (positions,))
ids = torch.randint(0, vocabulary, (positions, 16))
targets = SparseTargets(ids, torch.full((positions, 16), 1 / 16))
run = choose("sparse_loss").function
torch.randn(64, 64) @ torch.randn(64, 64)
rss = dict(l.split(":", 1) for l in Path("/proc/self/status").read_text().splitlines())["VmRSS"]
before = int(rss.split()[0]) * 1024
Path("/proc/self/clear_refs").write_text("5")
loss = linear_loss_sum(h, Head(w), lambda z, a, b: run(z, labels[a:b], targets.rows(a, b), 0.8))
loss.backward()
gradients = h.grad.numel() * 4 + (w.grad.numel() * 4 if trained_head else 0)
print(peak_rss_bytes() - before - gradients)
"""


def measure_memory() -> dict[str, Any]:
    """Return what the loss takes above the gradients that any step has."""
    found = {}
    for name, flag in (("frozen_head", "0"), ("trained_head", "1")):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY.format(root=str(ROOT)), flag],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found[name] = int(done.stdout)
    return {"loss_memory_bytes": found["frozen_head"], **found, "dense_logits": 2048 * 152_064 * 4}


def read_stories(limit: int) -> tuple[list[Encoded], list[Encoded], Path]:
    """Return TinyStories as rows for stories260K, to train and to judge on."""
    base = ASSETS / "models" / "stories260K"
    tokenizer = load_tokenizer(base)
    text = next((ASSETS / "data" / "tinystories").glob("*.txt")).read_text(encoding="utf-8")
    rows = []
    for story in text.split("<|endoftext|>")[: limit + 100]:
        ids = [1, *tokenizer(story.strip(), add_special_tokens=False).input_ids][:256]
        if len(ids) > 32:
            rows.append(Encoded(ids, [False, *[True] * (len(ids) - 1)], False))
    return rows[:-100], rows[-100:], base


def measure_bytes(rows: list[Encoded], teacher: Any, folder: Path) -> dict[str, Any]:
    """Return the size of a cache of real text, and what it would be at a vocabulary of 152 k."""
    from dataclasses import replace

    from edgetune.distill.cache_shard import write_shard

    settings = Settings()
    cache = fill_cache(TorchTeacher(teacher), rows, settings, ORIGIN, folder / "bytes", QUIET)
    lengths = np.concatenate([cache[row].lengths for row in range(len(cache))])
    # The same entries with ids of 18 bits.
    from edgetune.distill.sparse_probs import Entries

    wide = replace(settings.layout(cache.vocabulary), vocabulary=152_064)
    entries = []
    for row in range(len(cache)):
        target = cache[row]
        counts = (target.probs * settings.count).round().astype(np.int64)
        entries.append(Entries(target.lengths, target.ids, counts))
    write_shard(folder / "wide", entries, wide)
    return {
        "bytes_per_token": cache.bytes / cache.positions,
        "bytes_per_token_at_152k": (folder / "wide").stat().st_size / cache.positions,
        "unique_ids_per_token": float(lengths.mean()), "tokens": cache.positions,
    }  # fmt: skip


def measure_dense(
    rows: list[Encoded], judged: list[Encoded], base: Path, steps: int, seeds: int, folder: Path
) -> dict[str, Any]:
    """Train the same student from the cache and from whole distributions; compare its KL."""
    teacher = load_base(base, False, "float32", "cpu").eval()
    layers, _ = choose_layers(teacher, judged[:16], 3)
    cut_depth(base, layers, folder / "student")
    head = find_head(teacher)
    assert head is not None
    vocabulary = len(head.weight_VD)
    wanted = dict(TorchTeacher(teacher).score(judged))

    def run(dense: bool, seed: int) -> float:
        student = load_base(folder / "student", False, "float32", "cpu").train()
        own = find_head(student)
        sparse = choose("sparse_loss")
        kept = None
        if dense:
            loss: Any = OnlineKD(
                teacher, Divergence(choose("dense_loss")), sparse, KDWeight(1.0), vocabulary
            )
        else:
            kept = fill_cache(
                TorchTeacher(teacher), rows, Settings(seed=seed), ORIGIN, folder / f"dense-{seed}",
                QUIET,
            )  # fmt: skip
            loss = CachedKD(kept, sparse, 1.0, 0.0)
        optimizer = torch.optim.AdamW(student.parameters(), 2e-3, weight_decay=0.0, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        order = np.random.default_rng(seed).permutation(np.tile(np.arange(len(rows)), 50))
        data = Rows(rows, kept)
        for number in range(steps):
            batch = collate([data[int(n)] for n in order[number * 8 : number * 8 + 8]], 0)
            total, count = loss_of(student, own, batch, loss)
            (total / count).backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        student.eval()
        far, positions = 0.0, 0
        for index, logits_NV in TorchTeacher(student).score(judged):
            log_p, log_q = wanted[index].log_softmax(-1), logits_NV.log_softmax(-1)
            far += float((log_p.exp() * (log_p - log_q)).sum())
            positions += len(log_p)
        return far / positions

    pairs = [(run(False, seed), run(True, seed)) for seed in range(seeds)]
    ratios = [sampled / dense for sampled, dense in pairs]
    return {
        "kl_ratio_vs_dense": statistics.mean(ratios), "ratios": ratios, "steps": steps,
        "kl_cached": [pair[0] for pair in pairs], "kl_dense": [pair[1] for pair in pairs],
    }  # fmt: skip


def measure_trl(steps: int, folder: Path) -> dict[str, Any]:
    """Compare tokens/s with TRL's GKD trainer: off-policy, forward KL, the teacher resident.

    The teacher has eight times the student's parameters. Both run their own training loop over
    the same rows; what is timed is every step after the first two.
    """
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    from edgetune.data.build_encoder import make_encoder
    from edgetune.data.rows import Message, Row
    from edgetune.distill.losses import StudentLoss
    from edgetune.models.resolve import resolve_model
    from edgetune.recipe import DataSection, DistillSection
    from edgetune.train.distillation.trainer import train_student
    from edgetune.train.inputs import DistillationData, TrainingRun

    tokenizer = load_tokenizer(resolve_model("embedded:base"))
    size = len(tokenizer)
    text = (ROOT / "README.md").read_text().split()
    rows = [
        Row((Message("user", " ".join(text[n : n + 40])),
             Message("assistant", " ".join(text[n + 40 : n + 120]))), None, "bench")
        for n in range(0, 8 * 16, 2)
    ]  # fmt: skip
    encoder = make_encoder(tokenizer, DataSection(train="-", max_length=512), None)
    encoded = [encoder.encode(row) for row in rows]
    tokens = sum(len(row.ids) for row in encoded) / len(encoded) * 4
    teacher = make_llama(12, 768, size, seed=1).eval()
    student = make_llama(4, 384, size)

    def count(model: Any) -> int:
        return sum(parameter.numel() for parameter in model.parameters())

    class Clock(TrainerCallback):  # type: ignore[misc]
        marks: list[float]

        def __init__(self) -> None:
            self.marks = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.marks.append(time.perf_counter())

    def speed(marks: list[float]) -> float:
        return tokens / statistics.median(np.diff(marks[1:]))

    def ours(loss: StudentLoss, cache: Cache, out: Path) -> float:
        import edgetune.train.loop as loop

        clock = Clock()
        original = loop.ShowProgress.on_step_end
        loop.ShowProgress.on_step_end = clock.on_step_end  # type: ignore[method-assign]
        try:
            section = DistillSection(
                max_steps=steps, batch_size=4, eval_every=10**6, save_every=10**6
            )
            data = DistillationData(encoded, (), cache, tokenizer.pad_token_id)
            train_student(student, loss, data, section, TrainingRun("x", 0, out, QUIET))
        finally:
            loop.ShowProgress.on_step_end = original  # type: ignore[method-assign]
        return speed(clock.marks)

    def theirs(out: Path) -> float:
        clock = Clock()
        data = Dataset.from_list(
            [{"messages": [{"role": m.role, "content": m.content} for m in row.messages]}
             for row in rows]
        )  # fmt: skip
        config = GKDConfig(
            output_dir=str(out), max_steps=steps, per_device_train_batch_size=4, lmbda=0.0,
            beta=0.0, seq_kd=False, max_length=512, use_cpu=True, report_to=[], bf16=False,
            logging_steps=10**6, save_strategy="no", gradient_checkpointing=False,
            disable_tqdm=True, learning_rate=1e-4,
        )  # fmt: skip
        GKDTrainer(
            model=student, teacher_model=teacher, args=config, train_dataset=data,
            processing_class=tokenizer, callbacks=[clock],
        ).train()  # fmt: skip
        return speed(clock.marks)

    cache = fill_cache(TorchTeacher(teacher), encoded, Settings(), ORIGIN, folder / "trl", QUIET)
    loss = CachedKD(cache, choose("sparse_loss"), 1.0, 0.0)
    found: dict[str, list[float]] = {"ours": [], "trl": []}
    for number in range(2):
        found["ours"].append(ours(loss, cache, folder / f"ours-{number}"))
        found["trl"].append(theirs(folder / f"trl-{number}"))
    ratios = [a / b for a, b in zip(found["ours"], found["trl"], strict=True)]
    return {
        "speedup_vs_trl": statistics.median(ratios), "tokens_per_s": found,
        "student_parameters": count(student), "teacher_parameters": count(teacher),
        "teacher_bytes_not_resident": count(teacher) * 4,
    }  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few steps; nothing is kept")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    parser.add_argument("--only", choices=PARTS)
    args = parser.parse_args()
    quick = args.quick
    machine = {"cores": os.cpu_count(), "torch": torch.__version__, "machine": platform.machine()}
    torch.set_num_threads(os.cpu_count() or 1)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in [args.only] if args.only else PARTS:
            found |= (row := measure(name, quick, folder))
            if not quick:
                RESULTS.parent.mkdir(exist_ok=True)
                with RESULTS.open("a") as file:
                    file.write(json.dumps({"part": name, **machine, **row}) + "\n")
    print(json.dumps({**machine, **found}))


def measure(part: str, quick: bool, folder: Path) -> dict[str, Any]:
    """Return one part's figures."""
    if part == "step":
        steps = [measure_step(v, 3 if quick else 9, folder) for v in (4096, 32_000)]
        return {"step_ratio": max(one["step_ratio"] for one in steps), "steps": steps}
    if part == "memory":
        return measure_memory()
    if part == "trl":
        return measure_trl(6 if quick else 24, folder)
    if not ASSETS.is_dir():
        return {part: f"needs the assets: no folder {ASSETS}"}
    train, judged, base = read_stories(100 if quick else 600)
    if part == "bytes":
        teacher = load_base(base, False, "float32", "cpu").eval()
        return measure_bytes(train[:200], teacher, folder)
    steps, seeds = (10, 1) if quick else (300, 2)
    return measure_dense(train, judged, base, steps, seeds, folder)


if __name__ == "__main__":
    main()
