"""Calibration on a GPU: the model goes there for the pass and comes back for what follows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from edgetune.log import Log
from edgetune.quantize.calibration.activations import ActivationStats, collect_activation_stats
from edgetune.runtimes.gpu import release_gpu_pool


@contextmanager
def on_device(model: Any, device: str) -> Iterator[None]:
    """Have a float32 model that lies on the CPU on ``device`` while the context is open."""
    if device == "cpu":
        yield
        return
    model.to(device)
    try:
        yield
    finally:
        model.to("cpu")
        release_gpu_pool()


def collect_stats_on(
    device: str, model: Any, sequences: Sequence[Sequence[int]], log: Log
) -> ActivationStats:
    """Return :func:`collect_activation_stats` of a model, computed on ``device``."""
    with on_device(model, device):
        return collect_activation_stats(model, sequences, log)
