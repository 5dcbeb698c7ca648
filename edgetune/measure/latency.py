"""Latency and memory of one model in a child process."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgetune.measure.statistics import Estimate, mean, percentile
from edgetune.runtimes import Runtime


@dataclass(frozen=True)
class Latency:
    """Times of some requests, in seconds.

    Attributes:
        prompt_tokens: length of the prompt.
        first: for each request, the time to its first token.
        gaps: for each request, the times between its tokens.
    """

    prompt_tokens: int
    first: list[float]
    gaps: list[list[float]]

    def estimates(self) -> dict[str, tuple[Estimate, str]]:
        """Return estimate and unit by measurement name.

        TPOT percentiles are over single tokens; the rates are means over requests.
        """
        requests = len(self.first)
        figures = {
            "ttft_ms_p50": (Estimate(1e3 * percentile(self.first, 50), requests), "ms"),
            "ttft_ms_p95": (Estimate(1e3 * percentile(self.first, 95), requests), "ms"),
            "prefill_tokens_per_s": (
                mean([self.prompt_tokens / t for t in self.first]),
                "tokens/s",
            ),
        }
        gaps = [gap for request in self.gaps for gap in request]
        if gaps:
            rates = [len(request) / sum(request) for request in self.gaps]
            figures |= {
                "tpot_ms_p50": (Estimate(1e3 * percentile(gaps, 50), len(gaps)), "ms"),
                "tpot_ms_p95": (Estimate(1e3 * percentile(gaps, 95), len(gaps)), "ms"),
                "decode_tokens_per_s": (mean(rates), "tokens/s"),
            }
        return figures


def measure_latency(
    runtime: Runtime, prompt: Sequence[int], new_tokens: int, repeats: int
) -> Latency:
    """Time ``repeats`` equal requests, after one that warms caches up and is not counted."""
    first, gaps = [], []
    for repeat in range(repeats + 1):
        stamps = [time.perf_counter()]
        for _ in runtime.stream(prompt, new_tokens):
            stamps.append(time.perf_counter())
        if repeat == 0:
            continue
        times = [after - before for before, after in itertools.pairwise(stamps)]
        first.append(times[0])
        gaps.append(times[1:])
    return Latency(len(prompt), first, gaps)


def measure_decode_from_start(
    runtime: Runtime, prompt: Sequence[int], new_tokens: int, repeats: int
) -> Estimate:
    """Return the tokens per second that follow a prompt of one token: depth 0, as llama-bench's tg.

    Reading that token is a step of decoding like the others, so its time counts.

    Args:
        runtime: the model.
        prompt: token ids; the first is asked.
        new_tokens: tokens of each answer.
        repeats: requests, after one that warms up.
    """
    found = measure_latency(runtime, prompt[:1], new_tokens, repeats)
    requests = zip(found.first, found.gaps, strict=True)
    return mean([new_tokens / (first + sum(gaps)) for first, gaps in requests])


def measure_running(
    open_model: Callable[[], Runtime], prompt: Sequence[int], new_tokens: int, repeats: int
) -> tuple[Runtime, dict[str, tuple[Estimate, str]]]:
    """Load a model, time requests, and return it with estimate and unit by measurement name.

    The memory is what this process held at most until then, so nothing else may run in it before.

    Args:
        open_model: loads it; what has to be imported for that is imported already.
        prompt: token ids of each request.
        new_tokens: tokens each is answered with.
        repeats: requests, after one that warms up.
    """
    began = time.perf_counter()
    runtime = open_model()
    loaded = time.perf_counter() - began
    figures = {
        **measure_latency(runtime, prompt, new_tokens, repeats).estimates(),
        "load_s": (Estimate(loaded, 1), "s"),
        "peak_rss_bytes": (Estimate(peak_rss_bytes(), 1), "bytes"),
    }
    return runtime, figures


def peak_rss_bytes() -> int:
    """Return the most memory this process ever held (VmHWM; getrusage where there is no /proc)."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
