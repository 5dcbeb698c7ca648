"""Says what a stage took beside what was planned."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from edgetune.log import Log, bytes_text, clock
from edgetune.measure.usage import EVENT, Usage
from edgetune.plan.job import Estimate


class StepCheck:
    """Says how a training's first optimizer step compares with the plan, and what is left."""

    def __init__(self, log: Log, planned: Estimate) -> None:
        self._log, self._planned = log, planned

    def __call__(self, kind: str, fields: dict[str, Any]) -> None:
        """Take an event of the log; ``first_step`` has ``seconds``, and the ``steps`` to go."""
        if kind != "first_step" or not self._planned.step_seconds:
            return
        took, planned = float(fields["seconds"]), self._planned.step_seconds
        self._log.say(
            f"the first step took {took:.1f} s, {_difference(took, planned)}; "
            f"{fields['steps']:,} more like it take {clock(took * fields['steps'])}"
        )


def log_usage(log: Log, usage: Usage, planned: Estimate | None, resumed: bool) -> None:
    """Keep what a stage took as an event; say it where there was a plan to compare it with.

    Args:
        log: bound to the stage.
        usage: as it was measured.
        planned: what was estimated, if anything was.
        resumed: whether an earlier process did a part of the work.
    """
    estimate = asdict(planned) if planned else None
    log.event(EVENT, **asdict(usage), planned=estimate, resumed=resumed)
    if planned is None:
        return
    memory = f"{bytes_text(usage.ram_bytes)} of RAM, "
    memory += _difference(usage.ram_bytes, planned.ram_bytes)
    if usage.gpu_bytes:
        memory += f"; {bytes_text(usage.gpu_bytes)} of GPU memory, "
        memory += _difference(usage.gpu_bytes, planned.gpu_bytes)
    time = _difference(usage.seconds, planned.seconds)
    time = " since it was resumed" if resumed else f", {time}"
    log.say(f"took {clock(usage.seconds)}{time}; {memory}")


def _difference(measured: float, planned: float) -> str:
    """``12, 10`` → ``20 % more than planned``."""
    if not planned:
        return "not planned"
    share = 100 * (measured / planned - 1)
    if abs(share) < 0.5:
        return "as planned"
    return f"{abs(share):.0f} % {'more' if share > 0 else 'less'} than planned"
