"""lm-eval on files against its own ``hf`` model: the greatest difference of a request.

    python bench/judge.py lm_eval_difference --json

Two trained models (``EDGETUNE_ASSETS``), three local tasks: intents of SNIPS by likelihood, rolling
perplexity of TinyStories, continued stories. Each file's answers to lm-eval's requests are compared
with those of ``hf`` on the same model in float64: a long text has some 1,000 nats, and in float32
``hf`` is up to 1.6e-4 away from that itself. The figure is the greatest difference in nats of
a request on files that hold float32, infinite where an answer's text differs; a row has the
difference to ``hf`` in float32 too, and what that differs by. A quantized file
differs: its row has the mean KL of a token beside the mean difference of a token's log likelihood.
A matrix that does not fit a type's blocks stays F32.
"""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import lm_eval  # noqa: E402 - offline is said now
from lm_eval.models.huggingface import HFLM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

from edgetune.errors import Unsupported  # noqa: E402
from edgetune.export.gguf.converter import GgufHeader  # noqa: E402
from edgetune.export.gguf.f32 import convert_gguf  # noqa: E402
from edgetune.export.gguf.write import Quantization, write_gguf  # noqa: E402
from edgetune.export.onnx.build import HEAD_SIZE_STEP  # noqa: E402
from edgetune.lm_eval.model import EdgetuneLM  # noqa: E402
from edgetune.measure.quality import compare_runtimes  # noqa: E402
from edgetune.quantize.formats.ggml import fits_rows  # noqa: E402
from edgetune.runtimes import open_runtime  # noqa: E402
from edgetune.runtimes.gguf_header import open_gguf  # noqa: E402

MODELS = ("stories260K", "babyllama-tok105")
TYPES = ("Q8_0", "Q4_0")
CHOICE, ROLLING, ANSWERS = "snips_intents", "stories_likelihood", "stories_continued"
INTENTS = (
    "AddToPlaylist", "BookRestaurant", "GetWeather", "PlayMusic", "RateBook",
    "SearchCreativeWork", "SearchScreeningEvent",
)  # fmt: skip
EXACT = ("GGUF F32", "ONNX fp32")
ROWS, QUICK_ROWS = 12, 3


@dataclass
class Row:
    """A text whose every token counts; see :class:`edgetune.measure.quality.Encoded`."""

    ids: list[int]

    @property
    def trained(self) -> list[int]:
        return [1] * len(self.ids)


def write_tasks(assets: Path, folder: Path, rows: int) -> list[str]:
    """Write the three tasks and their rows; return the stories."""
    snips = (assets / "data/snips/validation.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [json.loads(line) for line in snips[:: max(1, len(snips) // rows)][:rows]]
    text = (assets / "data/tinystories/tinystories_val_sample.txt").read_text(encoding="utf-8")
    stories = [story.strip() for story in text.split("<|endoftext|>") if story.strip()][:rows]
    tables = {
        CHOICE: [{"prompt": one["prompt"], "label": INTENTS.index(one["completion"])}
                 for one in asked],
        ROLLING: [{"text": story} for story in stories],
        ANSWERS: [{"start": " ".join(story.split()[:20]), "rest": " ".join(story.split()[20:])}
                  for story in stories],
    }  # fmt: skip
    settings: dict[str, dict[str, Any]] = {
        CHOICE: {"output_type": "multiple_choice", "doc_to_text": "{{prompt}}\nIntent:",
                 "doc_to_choice": list(INTENTS), "doc_to_target": "label"},
        ROLLING: {"output_type": "loglikelihood_rolling", "doc_to_text": "",
                  "doc_to_target": "{{text}}"},
        ANSWERS: {"output_type": "generate_until", "doc_to_text": "{{start}}",
                  "doc_to_target": "{{rest}}", "metric_list": [{"metric": "bleu"}],
                  "generation_kwargs": {"until": ["\n"], "max_gen_toks": 64, "do_sample": False}},
    }  # fmt: skip
    for name, table in tables.items():
        file = folder / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
        files = {"data_files": {"test": str(file)}}
        task = {"task": name, "dataset_path": "json", "dataset_kwargs": files, "test_split": "test"}
        task |= settings[name]
        (folder / f"{name}.yaml").write_text(json.dumps(task), encoding="utf-8")  # JSON is YAML
    return stories


def answer(model: Any, tasks: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the answers to the requests of each task, in order, and lm-eval's results."""
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    names = [CHOICE, ROLLING, ANSWERS]
    said = lm_eval.simple_evaluate(
        model=model, tasks=names, task_manager=manager, log_samples=True, bootstrap_iters=0
    )
    assert said is not None
    answers: dict[str, Any] = {}
    for name in names:
        samples = sorted(said["samples"][name], key=lambda sample: sample["doc_id"])
        replies = [reply[0] for sample in samples for reply in sample["resps"]]
        if name == CHOICE:
            replies = [float(log_prob) for log_prob, _ in replies]
        answers[name] = replies if name == ANSWERS else np.array(replies, float)
    return answers, said["results"]


def make_files(folder: Path, scratch: Path) -> dict[str, Path]:
    """Return the model's files that its runtimes can hold: ONNX fp32, F32 and quantized GGUF."""
    files = {}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config["head_dim"] % HEAD_SIZE_STEP == 0:  # ONNX Runtime's attention has no others
        files["ONNX fp32"] = scratch / "onnx"
        subprocess.run(
            [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(folder), "-o",
             str(scratch / "onnx"), "-c", str(scratch / "cache"), "-p", "fp32", "-e", "cpu"],
            check=True, capture_output=True,
        )  # fmt: skip
    plain = scratch / "F32.gguf"
    try:
        convert_gguf(folder, plain, GgufHeader(folder.name))
    except Unsupported:  # babyllama's vocabulary cannot be spelled in llama.cpp
        return files
    files["GGUF F32"] = plain
    source = open_gguf(plain)
    for type_ in TYPES:
        files[f"GGUF {type_}"] = scratch / f"{type_}.gguf"
        chosen = {
            name: type_ if len(tensor.shape) > 1 and fits_rows(tensor.shape[-1], type_) else "F32"
            for name, tensor in source.tensors.items()
        }
        write_gguf(source, files[f"GGUF {type_}"], Quantization(type_, chosen))
    return files


def measure_kl(folder: Path, file: Path, stories: list[str], longest: int) -> float:
    """Return the mean KL(model || file) of a token of the stories, in nats."""
    reference, model = open_runtime(folder, 1), open_runtime(file, 1)
    try:
        rows = [Row(model.tokenize_prompt(story)[:longest]) for story in stories]  # type: ignore[attr-defined]
        return float(compare_runtimes(reference, model, rows)["kl_answer_tokens"])
    finally:
        reference.close()
        model.close()


def lm_eval_difference(quick: bool) -> Iterator[dict[str, Any]]:
    """Yield a row for each file of each model, then the figure."""
    logging.disable(logging.WARNING)
    assets = Path(os.environ.get("EDGETUNE_ASSETS", ROOT.parent / "shared" / "assets"))
    worst = 0.0
    for name in MODELS:
        with tempfile.TemporaryDirectory() as place:
            scratch = Path(place)
            for row in compare_model(assets, name, scratch, QUICK_ROWS if quick else ROWS):
                if row["file"] in EXACT:
                    differing = math.inf if row["answers_that_differ"] else 0.0
                    worst = max(worst, differing, *row["greatest_difference"].values())
                yield row
    yield {"figure": worst}


def compare_model(assets: Path, name: str, scratch: Path, rows: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each file of a model."""
    folder, tasks = assets / "models" / name, scratch / "tasks"
    tasks.mkdir()
    stories = write_tasks(assets, tasks, rows)
    double = {"dtype": "float64", "softmax_dtype": "float64"}
    hf = HFLM(pretrained=str(folder), device="cpu", **double)
    tokens = sum(len(hf.tok_encode(story)) for story in stories)
    wanted, plain = answer(hf, tasks)
    single, _ = answer(HFLM(pretrained=str(folder), device="cpu", dtype="float32"), tasks)
    for label, file in make_files(folder, scratch).items():
        model = EdgetuneLM(path=str(file), threads=1)
        found, results = answer(model, tasks)
        model.close()
        differences = {task: np.abs(found[task] - wanted[task]) for task in (CHOICE, ROLLING)}

        def most(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
            return {task: float(np.abs(one[task] - other[task]).max())
                    for task in (CHOICE, ROLLING)}  # fmt: skip

        said = [a != b for a, b in zip(found[ANSWERS], wanted[ANSWERS], strict=True)]
        yield {
            "model": name,
            "file": label,
            "lm_eval": lm_eval.__version__,
            "requests": {task: len(replies) for task, replies in found.items()},
            "greatest_difference": most(found, wanted),
            "to_hf_float32": most(found, single),
            "hf_float32_to_float64": most(single, wanted),
            "answers_that_differ": sum(said),
            "mean_difference_of_a_token": float(differences[ROLLING].sum()) / tokens,
            "kl_of_a_token": measure_kl(folder, file, stories, hf.max_length),
            "accuracy": [plain[CHOICE]["acc,none"], results[CHOICE]["acc,none"]],
            "bits_per_byte": [one[ROLLING]["bits_per_byte,none"] for one in (plain, results)],
        }
