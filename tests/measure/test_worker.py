"""A worker holds one runtime, and says what happened when it dies."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from edgetune.measure.latency import (
    measure_decode_from_start,
    measure_latency,
    peak_rss_bytes,
)
from edgetune.runtimes import open_runtime
from tests.model_files import make_gguf, make_onnx

LATENCY = {
    "ttft_ms_p50", "ttft_ms_p95", "tpot_ms_p50", "tpot_ms_p95",
    "prefill_tokens_per_s", "decode_tokens_per_s", "decode_tokens_per_s_depth_0", "load_s",
    "peak_rss_bytes",
}  # fmt: skip


def write_job(folder: Path, model: Path, **changes: Any) -> Path:
    work = {
        "latency_prompt": list(range(10, 40)),
        "prompts": [[5, 6, 7], [9, 8]],
        "stop_ids": [2],
        "scored": [{"ids": [5, 6, 7, 8], "trained": [False, True, True, True]}] * 2,
        "scored_bytes": [7, 7],
    }
    (folder / "work.json").write_text(json.dumps(work))
    job = {
        "model": str(model),
        "device": "cpu",
        "threads": 1,
        "new_tokens": 4,
        "repeats": 2,
        "max_new_tokens": 5,
        "references": {},
        "keep": None,
        "workload": str(folder / "work.json"),
        "result": str(folder / "result.json"),
    }
    (folder / "job.json").write_text(json.dumps(job | changes))
    return folder / "job.json"


@pytest.mark.parametrize("make", [make_gguf, make_onnx])
def test_a_file_is_measured_without_torch(
    tiny_model: Path, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    job = write_job(tmp_path, make(tiny_model))
    code = (
        "import sys; from edgetune.measure.worker import main; assert main(sys.argv[1:]) == 0\n"
        "found = {'torch', 'transformers', 'peft', 'optimum', 'bitsandbytes'} & set(sys.modules)\n"
        "assert not found, found"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(job)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads((tmp_path / "result.json").read_text())
    found = {m["name"]: m for m in result["measurements"]}
    assert set(found) == LATENCY | {"perplexity", "bits_per_byte"}
    assert all(m["value"] > 0 and m["n"] > 0 for m in found.values())
    assert 10e6 < found["peak_rss_bytes"]["value"] < 400e6  # torch alone takes more
    assert found["perplexity"]["where"]["threads"] == 1
    bits = 3 * math.log2(found["perplexity"]["value"]) / 7  # of 3 tokens and 7 bytes
    assert found["bits_per_byte"]["value"] == pytest.approx(bits)
    asked = {name: m["where"].get("prompt_tokens") for name, m in found.items()}
    assert (asked["decode_tokens_per_s"], asked["decode_tokens_per_s_depth_0"]) == (30, 1)
    assert found["prefill_tokens_per_s"]["where"]["new_tokens"] == 4
    assert [len(answer) <= 5 for answer in result["answers"]] == [True, True]


def test_errors_of_the_user_keep_their_message_and_exit_code(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"no")
    job = write_job(tmp_path, tmp_path / "broken.gguf")
    done = subprocess.run(
        [sys.executable, "-m", "edgetune.measure.worker", str(job)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "broken GGUF" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "result.json").exists()


def test_latency_reports_its_prompt_and_answer_lengths(tiny_model: Path) -> None:
    runtime = open_runtime(make_gguf(tiny_model), threads=1)
    latency = measure_latency(runtime, [5] * 20, new_tokens=6, repeats=3)
    runtime.close()
    assert len(latency.first) == 3
    assert [len(request) for request in latency.gaps] == [5, 5, 5]
    figures = {name: estimate for name, (estimate, _) in latency.estimates().items()}
    assert figures["tpot_ms_p50"].n == 15
    assert figures["ttft_ms_p50"].value <= figures["ttft_ms_p95"].value
    total = sum(map(sum, latency.gaps))
    assert 15 / total <= figures["decode_tokens_per_s"].value * 1.0001  # mean of rates
    one = measure_latency(open_runtime(tiny_model, threads=1), [5], new_tokens=1, repeats=1)
    assert "tpot_ms_p50" not in one.estimates()  # one token has no gap


def test_decoding_from_depth_0_counts_every_token() -> None:
    class Slow:
        asked: ClassVar[list[tuple[int, int]]] = []

        def stream(self, prompt: list[int], max_new_tokens: int) -> Iterator[int]:
            self.asked.append((len(prompt), max_new_tokens))
            for token in range(max_new_tokens):
                time.sleep(0.02 if token == 0 else 0.005)
                yield token

    found = measure_decode_from_start(Slow(), [7, 8, 9], new_tokens=4, repeats=2)  # type: ignore[arg-type]
    assert Slow.asked == [(1, 4)] * 3
    assert found.n == 2 and 20 < found.value <= 4 / 0.035


def test_peak_rss_is_a_peak() -> None:
    before = peak_rss_bytes()
    block = bytearray(before + 50_000_000)
    block[::4096] = b"x" * len(block[::4096])
    during = peak_rss_bytes()
    del block
    assert during >= before + 50_000_000
    assert peak_rss_bytes() > during - 1_000_000  # the kernel counts in batches of pages
