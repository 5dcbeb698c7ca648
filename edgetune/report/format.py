"""Figures of a report: found by name, and written as people read them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

NONE = "–"
THIN = "\u202f"  # narrow no-break space, between a number and its unit


def measured(model: dict[str, Any], name: str, device: str | None = None) -> dict[str, Any] | None:
    """Return the model's first measurement of that name (on ``device``), if it has one."""
    for one in model.get("measurements", ()):
        if one["name"] == name and device in (None, one["where"]["device"]):
            return dict(one)
    return None


def through_cache(model: dict[str, Any], kv_cache: str) -> dict[str, Any]:
    """Return the model with the measurements alone that another KV cache gave."""
    found = [m for m in model["measurements"] if m["where"].get("kv_cache") == kv_cache]
    return {**model, "measurements": found}


def value_of(model: dict[str, Any] | None, name: str, device: str | None = None) -> float | None:
    """Return the value of :func:`measured`; ``None`` where it is missing or not a number."""
    found = measured(model, name, device) if model else None
    value = found["value"] if found else None
    return float(value) if value is not None and math.isfinite(value) else None


def with_role(models: Sequence[dict[str, Any]], role: str) -> dict[str, Any] | None:
    """Return the first model of that role."""
    return next((model for model in models if model["role"] == role), None)


def devices_of(model: dict[str, Any]) -> list[str]:
    """Return the devices a model was measured on, in order."""
    return list(dict.fromkeys(one["where"]["device"] for one in model.get("measurements", ())))


def depth_of(models: Sequence[dict[str, Any]]) -> int | None:
    """Return the length of the KV cache that decoding was timed at, where all agree."""
    depths = {
        one["where"].get("prompt_tokens")
        for model in models
        for one in model.get("measurements", ())
        if one["name"] == "decode_tokens_per_s"
    }
    return depths.pop() if len(depths) == 1 else None


def reference(models: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the model that files are compared with: the teacher, or the base if not tuned."""
    return with_role(models, "teacher") or with_role(models, "base") or with_role(models, "merged")


def short_name(model: dict[str, Any]) -> str:
    """Return a label for plots: the scheme of a file, the role of anything else."""
    return str(model["scheme"] if model["role"] == "file" and model["scheme"] else model["name"])


def percent(value: float | None, digits: int = 1) -> str:
    """``0.957`` → ``95.7 %``."""
    return NONE if value is None else f"{100 * value:.{digits}f}{THIN}%"


def interval(found: dict[str, Any] | None) -> str:
    """``ci95 [0.93, 0.966]`` → ``93.0–96.6``; empty where there is none."""
    bounds = found.get("ci95") if found else None
    return f"{100 * bounds[0]:.1f}–{100 * bounds[1]:.1f}" if bounds else ""


def significant(value: float, digits: int = 3) -> str:
    """Three significant digits, thousands separated, never an exponent: ``12.3``, ``1,230``."""
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def small(value: float | None) -> str:
    """A quantity whose size matters more than its digits: ``0.0402``, ``2.1×10⁻⁸``."""
    if value is None:
        return NONE
    if value == 0 or abs(value) >= 1e-3:
        return f"{value:.3g}" if abs(value) < 1 else significant(value)
    mantissa, exponent = f"{value:.1e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa}×10{raised}"


def size(count: float | None) -> str:
    """``2_140_000`` → ``2.14 MB`` (decimal units)."""
    return _scaled(count, (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1)))


def milliseconds(value: float | None) -> str:
    """``12.34`` → ``12.3 ms``; from a second on, seconds."""
    return _scaled(value, (("s", 1e3), ("ms", 1), ("µs", 1e-3)))


def rate(value: float | None) -> str:
    """Tokens per second, whole from a hundred on."""
    return NONE if value is None else significant(value) if value < 100 else f"{value:,.0f}"


def times(ratio: float) -> str:
    """``9.24`` → ``9.2×``."""
    return f"{ratio:.1f}×" if ratio < 100 else f"{ratio:,.0f}×"


def round_form(form: Callable[[float], str]) -> Callable[[float], str]:
    """Return ``form`` for round values, as ticks are: ``5 MB`` where it writes ``5.00 MB``."""
    return lambda value: re.sub(r"\.0+(?=\D|$)|(\.\d*?)0+(?=\D|$)", r"\1", form(value))


def tick(value: float) -> str:
    """A round quantity: ``0.1``, ``1``, ``1×10⁻⁵``."""
    return round_form(small)(value)


def _scaled(value: float | None, units: tuple[tuple[str, float], ...]) -> str:
    if value is None:
        return NONE
    name, scale = next((unit for unit in units if abs(value) >= unit[1]), units[-1])
    return f"{significant(value / scale)}{THIN}{name}"
