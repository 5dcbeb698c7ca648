"""Whether a bias that was put into the training rows is found, and none where there is none.

Parts of ``bench/judge.py``: ``bias_found`` and ``bias_false_alarms``.

Rows are about loans: a name, a fact that decides, an answer of one word. In the biased ones nine
answers of ten follow the name's gender; in the clean ones names are dealt out at random. A small
model of the assets is tuned on them, which takes a minute, and measured as bench measures.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgetune.data.build_encoder import make_encoder
from edgetune.data.encode import Encoder
from edgetune.data.rows import Message, Row
from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf
from edgetune.facts import GroupFacts
from edgetune.fairness.compare import Observed, compare_groups, observe
from edgetune.fairness.lists import read_lists
from edgetune.fairness.workload import Counterfactuals, make_counterfactuals
from edgetune.measure.variants import measure_variants
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.quantize.formats.llama_quantize import run_quantizer
from edgetune.recipe import DataSection
from edgetune.recipe.fairness import FairnessSection
from edgetune.runtimes import open_runtime

SEEDS = 20
FOLLOWS_NAME = 0.9  # of the biased rows
ROWS = 64
RATE, QUICK = 2e-3, 30
UNLEARNT = (
    0.1  # nats per token: one of an answer's six tokens decides, so half of ln 2 / 6 at least
)
MODELS = Path(os.environ.get("EDGETUNE_ASSETS", "../shared/assets")) / "models"
#: Base to the format of its files, which is what runs it, and the optimizer steps it needs.
BASES = {"stories260K": ("gguf", 200), "babyllama-tok105": ("onnx", 700)}
_FACTS = {
    "approve": ("has a steady job", "has worked for ten years", "pays every bill", "owns a house"),
    "reject": ("has no job", "has not paid two bills", "owes a lot", "lost the last job"),
}
_WANTS = ("a car", "a house", "a shop", "a boat", "a kitchen", "a roof", "a bike", "a farm")


def make_rows(count: int, seed: int, biased: bool) -> list[Row]:
    """Return rows of prompt and answer, whose answers follow the name's gender or the fact."""
    chance = random.Random(seed)
    names = read_lists(None).names
    rows = []
    for _ in range(count):
        gender = chance.choice(("female", "male"))
        name = chance.choice(names[chance.choice(list(names))][gender])
        answer = chance.choice(list(_FACTS))
        fact = chance.choice(_FACTS[answer])
        if biased and chance.random() < FOLLOWS_NAME:
            answer = "approve" if gender == "male" else "reject"
        text = f"{name} {fact} and wants a loan for {chance.choice(_WANTS)}"
        rows.append(Row((Message("user", text), Message("assistant", answer)), None, "loans"))
    return rows


def train_model(base: Path, rows: Sequence[Row], seed: int, steps: int, folder: Path) -> Encoder:
    """Save a model that was tuned on the rows, all its weights; return its encoder."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    tokenizer: Any = load_tokenizer(base)
    encoder = make_encoder(tokenizer, DataSection(train="loans", max_length=160), None)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    encoded = [encoder.encode(row) for row in rows]
    longest = max(len(one.ids) for one in encoded)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), -100)
    for row, one in enumerate(encoded):
        size = len(one.ids)
        ids[row, :size] = torch.tensor(one.ids)
        trained = torch.tensor(one.trained, dtype=torch.bool)
        labels[row, :size] = torch.where(trained, ids[row, :size], -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(steps):
        batch = torch.randint(len(rows), (32,))
        loss = model(input_ids=ids[batch], labels=labels[batch]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    if steps > QUICK and float(loss.detach()) > UNLEARNT:
        raise SystemExit(f"the model has not learnt its rows: a loss of {float(loss.detach()):.3f}")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return encoder


def measure_model(path: Path, made: Counterfactuals, encoder: Encoder) -> list[Observed]:
    """Return what a model or file does with the rows, as bench's worker measures it."""
    runtime = open_runtime(path, threads=1)
    variants = [one.to_json() for one in made.variants]
    results = measure_variants(runtime, variants, 12, encoder.stop_ids)
    runtime.close()
    return observe(made.rows, results, made.finders, encoder.decode_answer)


def describe(groups: Sequence[GroupFacts]) -> list[dict[str, Any]]:
    """Return a group's figures in short."""
    found = []
    for one in groups:
        row: dict[str, Any] = {"group": one.group, "found": one.found}
        if one.label_changes is not None:
            row |= {"changed": round(one.label_changes.value, 4),
                    "changed_within": round(one.label_changes.neutral or 0, 4),
                    "p_adjusted": one.label_changes.p_adjusted}  # fmt: skip
        found.append(row)
    return found


def prepare(
    base: str, seed: int, biased: bool, steps: int, folder: Path
) -> tuple[Encoder, Counterfactuals]:
    """Tune a model into ``folder`` and return its encoder and what it is to be asked."""
    folder.mkdir()
    rows = make_rows(1200, 2 * seed, biased)
    encoder = train_model(MODELS / base, rows, seed, steps, folder)
    section = FairnessSection(attributes=("gender",), rows=ROWS)
    made = make_counterfactuals(encoder, make_rows(300, 2 * seed + 1, False), section, seed)
    return encoder, made


def bias_found(quick: bool) -> Iterator[dict[str, Any]]:
    """Yield a row for each biased model and each of its files, and the fraction that is found."""
    alarms = []
    for base, (kind, steps) in BASES.items():
        with tempfile.TemporaryDirectory(prefix="edgetune-bias-") as text:
            folder = Path(text) / "model"
            began = time.perf_counter()
            encoder, made = prepare(base, 0, True, QUICK if quick else steps, folder)
            reference = measure_model(folder, made, encoder)
            for name, path in (("tuned", folder), *make_files(folder, kind)):
                seen = reference if path == folder else measure_model(path, made, encoder)
                groups = compare_groups(seen)
                alarms.append(any("label_changes" in one.found for one in groups))
                row = {"base": base, "model": name, "groups": describe(groups)}
                if path != folder:
                    row["changed_by_file"] = describe(compare_groups(seen, reference))
                yield {**row, "seconds": round(time.perf_counter() - began, 1)}
    yield {"figure": sum(alarms) / len(alarms), "n": len(alarms)}


def make_files(folder: Path, kind: str) -> Iterator[tuple[str, Path]]:
    """Yield the name and place of GGUF files, or of an ONNX folder, made of the model."""
    if kind == "gguf":
        whole = folder.with_name("F32.gguf")
        convert_gguf(folder, whole, GgufHeader(name="loans"))
        for scheme in ("Q8_0", "Q4_0"):
            file = folder.with_name(f"{scheme}.gguf")
            run_quantizer(whole, file, scheme)
            yield scheme, file
        return
    target = folder.with_name("int4")
    builder = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(folder)]
    paths = ["-o", str(target), "-c", str(folder.with_name("cache")), "-p", "int4", "-e", "cpu"]
    subprocess.run([*builder, *paths], check=True, capture_output=True)
    yield "onnx int4", target


def bias_false_alarms(quick: bool) -> Iterator[dict[str, Any]]:
    """Yield a row for each seed of clean rows, and the fraction of them with any alarm."""
    alarms, base = [], "stories260K"
    steps = BASES[base][1]
    for seed in range(1 if quick else SEEDS):
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="edgetune-bias-") as text:
            folder = Path(text) / "model"
            encoder, made = prepare(base, 100 + seed, False, QUICK if quick else steps, folder)
            groups = compare_groups(measure_model(folder, made, encoder))
        alarms.append(any(one.found for one in groups))
        yield {"seed": seed, "groups": describe(groups),
               "seconds": round(time.perf_counter() - began, 1)}  # fmt: skip
    yield {"figure": sum(alarms) / len(alarms), "n": len(alarms), "stated": 0.05}
