"""Adapters over a GGUF file's own weights: is it what was trained, and is it worth its bytes?

``adapter_over_gguf_kl``: KL of llama.cpp with ``--lora`` to the training's model, by type.
``adapter_switching``: seconds from one adapter to another over one loaded file.
``three_ways``: at equal bytes, QLoRA on NF4, merged and quantized by search; an adapter over the
base's Q4_K_M or Q4_0; quantization-aware training. The adapter's bytes count, so the other two may
spend them on more bits.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from edgetune.embedded import locate
from edgetune.export.gguf.adapter import write_gguf_adapter
from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf
from edgetune.models.adapters import add_adapter, save_adapter
from edgetune.models.load import load_base
from edgetune.quantize.formats.llama_quantize import run_quantizer
from edgetune.recipe import TuneSection
from edgetune.runtimes.llamacpp import LlamaCpp

ASSETS = Path(os.environ.get("EDGETUNE_ASSETS", "../shared/assets"))
SCHEMES = ("F32", "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M")
QAT_STEPS = 100
SHOWN = ("exact_match", "perplexity", "kl_answer_tokens")

DEVICES: dict[str, Any] = {
    "model": {"path": "embedded:base"},
    "data": {
        "train": "embedded:devices/train.jsonl",
        "validation": "embedded:devices/validation.jsonl",
        "test": "embedded:devices/test.jsonl",
        "max_length": 128,
    },
    "tune": {
        "method": "qlora", "rank": 4, "alpha": 8, "learning_rate": 4e-3, "max_steps": 120,
        "batch_size": 16, "packing": False, "eval_every": 60, "eval_rows": 64,
    },
    "bench": {"task_rows": 200, "kl_rows": 128, "max_new_tokens": 48, "repeats": 1},
}  # fmt: skip
SNIPS: dict[str, Any] = {
    "model": {"path": str(ASSETS / "models/stories260K")},
    "data": {
        "train": str(ASSETS / "data/snips/train.jsonl"),
        "test": str(ASSETS / "data/snips/validation.jsonl"),
        "validation_fraction": 0.02,
        "max_length": 256,
    },
    "tune": {
        "method": "qlora", "rank": 4, "alpha": 8, "learning_rate": 5e-3, "max_steps": 150,
        "batch_size": 16, "packing": False, "eval_every": 100, "eval_rows": 64,
    },
    "bench": {"task_rows": 300, "kl_rows": 100, "max_new_tokens": 16, "repeats": 1},
}  # fmt: skip
TASKS = {
    "stories260K on SNIPS": (SNIPS, "Q4_0"),
    "embedded:base on device rows": (DEVICES, "Q4_K_M"),
}


def adapter_over_gguf_kl(quick: bool) -> Iterator[dict[str, Any]]:
    """Tune the embedded base over a file of each scheme and export; the figure is the worst KL."""
    worst = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        for scheme in SCHEMES[-2:] if quick else SCHEMES:
            file = make_file("embedded:base", scheme, Path(scratch))
            recipe = over_file(DEVICES, file, 2)
            recipe["tune"] |= {"eval_rows": 16}
            recipe |= {"bench": None, "export": {"check_rows": 8}}
            facts = run(recipe, Path(scratch) / "runs")["export"]
            exact, real = facts["adapters"][0], facts["files"][0]["checks"]
            worst = max(worst, exact["kl_all_tokens"])
            yield {
                "scheme": scheme,
                "kl_float32_activations": exact["kl_all_tokens"],
                "kl_as_run": real["kl_all_tokens"],
                "top1_as_run": real["top1_all_tokens"],
                "tokens": real["positions"],
                "figure": worst,
            }


def adapter_switching(quick: bool) -> Iterator[dict[str, Any]]:
    """Yield seconds to switch between two adapters over one loaded file, and to load another file.

    Each with the first token of a prompt of 64 tokens; of repeats the shortest, since other
    processes can only add to it.
    """
    prompt, repeats = list(range(100, 164)), 3 if quick else 40
    with tempfile.TemporaryDirectory() as scratch:
        file, folder = make_file("embedded:base", "Q4_K_M", Path(scratch)), locate("base")
        paths = [Path(scratch) / f"{seed}.gguf" for seed in (1, 2)]
        for seed, path in enumerate(paths):
            model = add_adapter(load_base(folder, False, "float32", "cpu"), TuneSection(), seed)
            save_adapter(model, path.with_suffix(""))
            write_gguf_adapter(folder, path.with_suffix(""), path, path.stem)
        runtime = LlamaCpp(file, 1)
        first_use = [_seconds(lambda path=path: runtime.use_adapter(path)) for path in paths]
        runtime.logits(prompt)

        def answer(switch: bool, turn: int) -> None:
            if switch:
                runtime.use_adapter(paths[turn % 2])
            next(iter(runtime.stream(prompt, 1)))

        answer(True, 0)  # makes the context
        times: dict[bool, list[float]] = {False: [], True: []}
        for turn in range(repeats):  # in turn: other processes slow both alike
            for switch, found in times.items():
                found.append(_seconds(lambda s=switch, t=turn: answer(s, t)))
        runtime.close()
        reopened = [_seconds(lambda: LlamaCpp(file, 1).close()) for _ in range(repeats)]
        yield {
            "adapter_bytes": paths[0].stat().st_size,
            "load_adapter_s": statistics.median(first_use),
            "first_token_s": min(times[False]),
            "first_token_after_switch_s": min(times[True]),
            "load_file_s": min(reopened),
            "repeats": repeats,
            "figure": min(times[True]) - min(times[False]),
        }


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def three_ways(quick: bool) -> Iterator[dict[str, Any]]:
    """Yield the score, perplexity and bytes of each way on each task, with 95 % intervals."""
    for task, (settings, scheme) in TASKS.items():
        with tempfile.TemporaryDirectory() as scratch:
            yield from _compare(task, settings, scheme, Path(scratch), quick)


def _compare(
    task: str, settings: dict[str, Any], scheme: str, scratch: Path, quick: bool
) -> Iterator[dict[str, Any]]:
    steps = 2 if quick else settings["tune"]["max_steps"]
    file = export_file(settings, scheme, scratch / "file")
    over = run(over_file(settings, file, steps), scratch / "over")
    adapted = over["export"]["files"][0]
    yield _row(task, f"adapter over {scheme}", over, adapted["name"], steps)
    yield _row(task, f"{scheme} alone", over, "base", steps)
    for name, method in (("QLoRA on NF4, merged, gptq", "gptq"), ("the same, QAT", "qat")):
        recipe = {
            **settings,
            "tune": {**settings["tune"], "max_steps": steps},
            "merge": {},
            "quantize": {
                "gguf": [], "onnx": [], "budget": [f"bytes={adapted['bytes']}"], "method": method,
            },
            "export": {},
        }  # fmt: skip
        if method == "qat":
            recipe["quantize"]["qat"] = {"max_steps": 2 if quick else QAT_STEPS}
        found = run(recipe, scratch / "merged")
        (made,) = found["export"]["files"]
        yield _row(task, name, found, made["name"], steps)
        if method == "gptq":
            yield _row(task, "QLoRA on NF4, in torch", found, "teacher", steps)


def _row(task: str, way: str, found: dict[str, Any], name: str, steps: int) -> dict[str, Any]:
    model = next(one for one in found["models"] if one["name"] == name)
    figures = {
        one["name"]: {"value": one["value"], "ci95": one.get("ci95"), "n": one["n"]}
        for one in model["measurements"]
        if one["name"] in SHOWN
    }
    return {"task": task, "way": way, "bytes": model["bytes"], "steps": steps, **figures}


def over_file(settings: dict[str, Any], file: Path, steps: int) -> dict[str, Any]:
    """Return the recipe that tunes over a GGUF file and ships both."""
    tune = {**settings["tune"], "base": f"gguf:{file}", "max_steps": steps}
    return {**settings, "tune": tune, "export": {}}


def make_file(model: str, scheme: str, scratch: Path) -> Path:
    """Return a GGUF file of a model, quantized by llama.cpp itself."""
    folder = locate(model.partition(":")[2]) if model.startswith("embedded:") else Path(model)
    plain = scratch / "plain.gguf"
    if not plain.is_file():
        convert_gguf(folder, plain, GgufHeader("base"))
    target = scratch / f"base-{scheme}.gguf"
    run_quantizer(plain, target, scheme)
    return target


def export_file(settings: dict[str, Any], scheme: str, out: Path) -> Path:
    """Return a GGUF file of a model as `edgetune export` makes it, by importance on its rows."""
    command = [
        sys.executable, "-m", "edgetune", "export", "--model", settings["model"]["path"],
        "--data", settings["data"]["train"], "--scheme", scheme, "--out", str(out),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    (file,) = (out / "gguf").glob("*.gguf")
    return file


def run(recipe: dict[str, Any], out: Path) -> dict[str, Any]:
    """Run a recipe from the command line; return export's facts and the models of the report."""
    named = {"name": "tune-bench", **{name: one for name, one in recipe.items() if one is not None}}
    path = out.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(named))
    command = [sys.executable, "-m", "edgetune", "run", str(path), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    report = out / "report" / "report.json"
    if done.returncode not in (0, 3) or not report.is_file():  # 3: a gate failed, which is told
        raise RuntimeError(done.stderr[-3000:])
    found = json.loads(report.read_text())
    folder = next(one["path"] for one in found["lineage"] if one["stage"] == "export")
    facts = json.loads((out / folder / "artifact.json").read_text())["facts"]
    return {"models": found["models"], "export": facts}
