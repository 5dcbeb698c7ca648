"""Jobs of quantization methods, for tests that run one method on one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgetune.log import Log
from edgetune.quantize.calibration.rows import Texts
from edgetune.quantize.candidates import Candidates
from edgetune.quantize.methods import Job


def make_job(
    candidates: Candidates, types: dict[str, str], texts: Texts, settings: Any = None, **other: Any
) -> Job:
    """Return a job for one file, ``x``, of seed 0; ``other`` are fields of :class:`Job`."""
    fields = {"model": Path(), "loaded": None, "seed": 0, "out": Path(), "file": "x"} | other
    log = Log(None, quiet=True)
    return Job(
        candidates=candidates, types=types, texts=texts, settings=settings, log=log, **fields
    )
