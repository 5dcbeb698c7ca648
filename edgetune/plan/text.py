"""A plan in words: its table, and what is said where it does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgetune.errors import InputError
from edgetune.log import bytes_text
from edgetune.plan.fit import Shortage, fit_job, propose
from edgetune.plan.job import Estimate, Job


def describe_plan(job: Job, estimates: Sequence[Estimate]) -> list[str]:
    """Return machine, model, data and a row per stage, a line each."""
    machine, shape, tokens = job.machine, job.shape, job.tokens
    where = f"{bytes_text(machine.ram_bytes)} of RAM"
    if machine.gpu_bytes:
        where += f", {bytes_text(machine.gpu_bytes)} of GPU memory"
    width = max(10, *(2 + len(one.stage) for one in estimates))
    lines = [
        f"machine   {machine.device}, {where}, {bytes_text(machine.disk_bytes)} of disk free; "
        f"{machine.flops / 1e9:,.0f} GFLOP/s in {job.dtype}",
        f"model     {shape.total / 1e6:,.1f} M weights, {shape.linear / 1e6:,.1f} M in linear "
        f"layers, vocabulary {shape.vocabulary:,}",
        f"data      {tokens.rows:,} rows, {tokens.mean:.0f} tokens per row, at most "
        f"{tokens.longest} of a sample",
        f"{'stage':<{width}}{'RAM':>10}{'GPU':>10}{'disk':>10}{'time':>10}",
    ]
    for one in estimates:
        gpu = bytes_text(one.gpu_bytes) if one.gpu_bytes else "-"
        lines.append(
            f"{one.stage:<{width}}{bytes_text(one.ram_bytes):>10}{gpu:>10}"
            f"{bytes_text(one.disk_bytes):>10}{duration_text(one.seconds):>10}"
        )
    return lines


def describe_shortages(shortages: Sequence[Shortage]) -> str:
    """Return what each stage lacks, and by how much."""
    return "; ".join(
        f"{one.stage} needs {bytes_text(one.needed)} of {one.resource}, "
        f"{bytes_text(one.available)} can be used"
        for one in shortages
    )


def refuse_plan(
    job: Job,
    shortages: Sequence[Shortage],
    tried: bool = False,
    result: Mapping[str, Any] | None = None,
) -> InputError:
    """Return the error of a plan that does not fit, with the settings that would.

    Args:
        job: the plan's.
        shortages: of its stages.
        tried: whether these are what is left after :func:`edgetune.plan.fit.fit_job`.
        result: the plan, for those who asked for JSON.
    """
    fitted = None if tried else fit_job(job)
    if fitted is not None:
        settings = " ".join(f"--set {change.key}={change.new}" for change in fitted[1])
        hint = f"this fits, and trains the same: {settings} (or --fit)"
    else:
        hint = f"these would make it smaller, and change what is trained: {'; '.join(propose(job))}"
    return InputError(
        f"the plan does not fit: {describe_shortages(shortages)}",
        where="plan",
        hint=f"{hint}; `edgetune run --ignore-plan` runs all the same",
        result=result,
    )


def duration_text(seconds: float) -> str:
    """Return a duration in its largest unit."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
