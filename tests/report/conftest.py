"""A run such as the quickstart leaves it: real artifacts on disk with plausible figures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from edgetune.artifact import Artifact, commit_part, make_key, open_part
from edgetune.evaluate.predictions import PredictionWriter, Question
from edgetune.recipe import Recipe
from edgetune.report.build import build_report
from edgetune.rundir import RunDir

MACHINE = {
    "processor": "Intel(R) Xeon(R) Processor @ 2.60GHz",
    "cores": 2,
    "memory_bytes": 16_600_000_000,
    "features": ["avx2", "avx512_vnni", "avx512f"],
    "gpu": None,
    "system": "Linux x86_64",
    "python": "3.11.13",
    "versions": {"torch": "2.13.0+cpu", "transformers": "5.23.0", "llama-cpp-python": "0.3.36"},
}

# name, role, format, scheme, megabytes, exact match, KL, decode tok/s
MODELS: tuple[tuple[str, str, str, str, float, float, float, float], ...] = (
    ("base", "base", "hf", "BF16", 19.44, 0.013, 1.9, 210),
    ("teacher", "teacher", "hf", "NF4 + LoRA", 20.31, 0.963, 0.0, 96),
    ("baseline", "baseline", "hf", "F32", 22.1, 0.893, 0.081, 288),
    ("merged", "merged", "hf", "BF16", 11.05, 0.947, 0.041, 291),
    ("quickstart-F32.gguf", "file", "gguf", "F32", 22.21, 0.947, 0.041, 812),
    ("quickstart-F16.gguf", "file", "gguf", "F16", 11.2, 0.947, 0.041, 1310),
    ("quickstart-Q8_0.gguf", "file", "gguf", "Q8_0", 6.1, 0.947, 0.0412, 1840),
    ("quickstart-Q6_K.gguf", "file", "gguf", "Q6_K", 4.83, 0.943, 0.0425, 1760),
    ("quickstart-Q5_K_M.gguf", "file", "gguf", "Q5_K_M", 4.21, 0.943, 0.0447, 1795),
    ("quickstart-Q4_K_M.gguf", "file", "gguf", "Q4_K_M", 3.74, 0.937, 0.0502, 2010),
    ("quickstart-Q4_0.gguf", "file", "gguf", "Q4_0", 3.52, 0.917, 0.0731, 2240),
    ("quickstart-fp32", "file", "onnx", "fp32", 22.9, 0.947, 0.041, 640),
    ("quickstart-int8", "file", "onnx", "int8", 6.9, 0.943, 0.0431, 1120),
    ("quickstart-int4", "file", "onnx", "int4", 4.4, 0.91, 0.0844, 1390),
)


def make_model(row: tuple[str, str, str, str, float, float, float, float]) -> dict[str, Any]:
    name, role, format, scheme, megabytes, score, kl, speed = row
    runtime = {"hf": "torch", "gguf": "llama.cpp", "onnx": "onnxruntime"}[format]
    where = {"runtime": runtime, "device": "cpu", "threads": 2}
    half = 1.96 * math.sqrt(score * (1 - score) / 300)
    figures: list[tuple[str, float, str, list[float] | None]] = [
        ("exact_match", score, "", [score - half, min(1.0, score + half)]),
        ("perplexity", 1.04 + kl, "", None),
        ("bits_per_byte", 0.02 + kl / 5, "bits", [0.019 + kl / 5, 0.021 + kl / 5]),
        ("ttft_ms_p50", 9000 / speed, "ms", None),
        ("ttft_ms_p95", 9900 / speed, "ms", None),
        ("tpot_ms_p50", 1000 / speed, "ms", None),
        ("tpot_ms_p95", 1150 / speed, "ms", None),
        ("prefill_tokens_per_s", 14 * speed, "tokens/s", None),
        ("decode_tokens_per_s", speed, "tokens/s", None),
        ("decode_tokens_per_s_depth_0", 1.1 * speed, "tokens/s", None),
        ("load_s", 0.4, "s", None),
        ("peak_rss_bytes", (60 if format == "gguf" else 420) * 1e6 + megabytes * 1e6, "B", None),
    ]
    if role == "file":
        own = abs(kl - 0.041) + (2e-8 if "32" in scheme else 1e-6)
        figures.append(("kl_answer_tokens_to_merged", own, "nats", None))
    if role != "teacher":
        figures += [
            ("kl_answer_tokens", kl, "nats", [0.9 * kl, 1.1 * kl]),
            ("kl_answer_tokens_p99", 9 * kl, "nats", None),
            ("top1_answer_tokens", 1 - kl / 3, "", None),
        ]
    return {
        "name": name,
        "role": role,
        "format": format,
        "scheme": scheme,
        "path": name,
        "sha256": "ab" * 32,
        "bytes": int(megabytes * 1e6),
        "measurements": [
            {"name": n, "value": v, "unit": u, "n": 300, "ci95": ci, "where": where}
            for n, v, u, ci in figures
        ],
    }


def curve(role: str, steps: int, floor: float) -> list[dict[str, Any]]:
    rows = [
        {"role": role, "step": s, "loss": floor + 2.4 * math.exp(-s / 40) * (1 + 0.1 * (s % 3))}
        for s in range(10, steps + 1, 10)
    ]
    rows += [
        {"role": role, "step": s, "eval_loss": 1.1 * floor + 2.2 * math.exp(-s / 42)}
        for s in range(50, steps + 1, 50)
    ]
    return rows


class SampleRun:
    """Writes artifacts as the stages would, and builds the report of them."""

    def __init__(self, path: Path) -> None:
        self.run = RunDir(path)
        self.artifacts: dict[str, Artifact] = {}
        self.models = [make_model(row) for row in MODELS]
        self.recipe = Recipe.model_validate(
            {
                "name": "quickstart",
                "model": {"path": "embedded:base"},
                "data": {"train": "embedded:devices/train.jsonl"},
                "tune": {},
                "distill": {"student": {"layers": 6}},
                "report": {
                    "gates": [{"measurement": "exact_match", "models": "teacher", "min": 0.95}]
                },
            }
        )

    def add(
        self, stage: str, kind: str, facts: dict[str, Any], files: dict[str, str], *parents: str
    ) -> None:
        keys = {name: self.artifacts[name].key for name in parents}
        key = make_key(stage, 1, {}, keys)
        final = self.run.stage_path(stage, key)
        part = open_part(final, key)
        for name, text in files.items():
            (part / name).parent.mkdir(exist_ok=True)
            (part / name).write_text(text, encoding="utf-8")
        self.artifacts[stage] = commit_part(final, kind, stage, key, keys, facts)
        self.run.record(self.artifacts[stage])

    def answer(
        self, count: int = 60, confidential: bool = False, file: str = "rows.jsonl",
        prompted: float | None = None,
    ) -> dict[str, str]:  # fmt: skip
        """Return the prediction sets of models that answer as many rows right as they score.

        With ``prompted`` the base has examples too, and that score with them.
        """
        questions = [
            Question(
                f"turn {'on' if n % 2 else 'off'} light {n} </script>",
                f"lamp {n}",
                where=f"{file}:{n + 1}",
            )
            for n in range(count)
        ]
        with TemporaryDirectory() as folder:
            writer = PredictionWriter(Path(folder), questions, confidential)
            models = [(row[0], row[1], row[5]) for row in MODELS]
            models[1:1] = [("base, 4 examples", "prompted", prompted)] if prompted else []
            for name, role, score in models:
                answers = [f"lamp {n}" if n < score * count else "no <b>" for n in range(count)]
                writer.add(name, role, answers)
            writer.finish()
            found = sorted(Path(folder).iterdir())
            return {f"predictions/{path.name}": path.read_text("utf-8") for path in found}

    def finish(self, predictions: dict[str, str] | None = None) -> SampleRun:
        lines = "\n".join(json.dumps(row) for row in curve("teacher", 600, 0.02))
        self.add("tune", "adapter", {"steps": 600}, {"metrics.jsonl": lines + '\n{"step": 9'})
        rows = curve("student", 800, 0.03) + curve("baseline", 800, 0.06)
        lines = "\n".join(json.dumps(row) for row in rows)
        self.add("distill", "student", {"layers": [0, 1, 5]}, {"metrics.jsonl": lines}, "tune")
        candidates = [
            {
                "base": "original",
                "kl_answer_tokens": 0.42,
                "top1_answer_tokens": 0.937,
                "positions": 812,
            },
            {
                "base": "dequantized",
                "kl_answer_tokens": 1.3e-9,
                "top1_answer_tokens": 1.0,
                "positions": 812,
            },
        ]
        facts = {"candidates": candidates, "chosen": "dequantized"}
        self.add("merge", "model", facts, {}, "tune", "distill")
        self.add("export", "files", self._export_facts(), {}, "merge")
        text = json.dumps({"models": self.models})
        facts = {"models": self.models}
        files = {"measurements.json": text, **(predictions or {})}
        self.add("bench", "measurements", facts, files, "tune", "export")
        tuning = {"stage": "tune", "key": self.artifacts["tune"].key, "event": "warning"}
        events = [
            {**tuning, "text": "3 rows were cut <b>off</b>"},
            {**tuning, "text": "3 rows were cut <b>off</b>"},
        ]
        self.run.log_path.write_text("\n".join(json.dumps(event) for event in events))
        return self

    def _export_facts(self) -> dict[str, Any]:
        files = []
        for model in self.models:
            if model["role"] == "file":
                lossless = model["scheme"] in ("F32", "fp32")
                checks = {"token_ids_equal": True, "texts": 9, "top1_all_tokens": 0.9993}
                checks["kl_all_tokens"] = 2.1e-8 if lossless else 3.1e-3
                file = {k: model[k] for k in ("name", "format", "scheme", "path", "bytes")}
                file["sha256"] = "5a" * 32
                file["tensor_bytes"] = model["bytes"] - 100_000
                files.append({**file, "lossless": lossless, "checks": checks, "fallbacks": []})
        fallback = {"wanted": "Q6_K", "got": "Q8_0", "why": "rows of 172 are no multiple of 256"}
        tensors = [f"blk.{n}.ffn_down.weight" for n in range(5)]
        files[3]["fallbacks"] = [{"tensor": tensor, **fallback} for tensor in tensors]
        limit = {"name": "F32 GGUF against the merged model, KL", "limit": 1e-5}
        return {
            "files": files,
            "refused": [{"format": "onnx", "scheme": "fp16", "why": "a head size of 8 <16>"}],
            "gates": [{**limit, "value": 2.1e-8, "ok": True}],
        }

    def report(self) -> dict[str, Any]:
        return build_report(self.recipe, self.artifacts, self.run, MACHINE)


@pytest.fixture
def sample(tmp_path: Path) -> SampleRun:
    return SampleRun(tmp_path / "run").finish()


@pytest.fixture
def answered(tmp_path: Path) -> SampleRun:
    """The same run with prediction sets."""
    run = SampleRun(tmp_path / "answered")
    return run.finish(run.answer())
