"""The result of a gate, in any stage."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GateResult:
    """A limit, the value compared with it (``None``: not measured), and whether it holds."""

    name: str
    limit: int | float  # as it was written: 1 stays 1
    value: int | float | None
    ok: bool
