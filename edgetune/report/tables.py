"""The report's tables: columns and cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgetune.log import clock
from edgetune.report.format import (
    NONE,
    depth_of,
    devices_of,
    interval,
    measured,
    milliseconds,
    percent,
    rate,
    significant,
    size,
    small,
    through_cache,
    value_of,
)
from edgetune.report.resources import resource_pair


@dataclass(frozen=True)
class Cell:
    """A number on a page: its text, and what the number is.

    Attributes:
        text: as people read it.
        below: small text under it, as its interval.
        metric: by which the page's definitions explain it; empty for a text.
        n: observations behind it; 0 where that is not recorded.
    """

    text: str
    below: str = ""
    metric: str = ""
    n: int = 0


@dataclass(frozen=True)
class Column:
    """A column of the table of models: title, metric, and the cell of a model on a device."""

    title: str
    metric: str
    cell: Callable[[dict[str, Any], str | None], Cell]


def _number(title: str, name: str, form: Callable[[float | None], str]) -> Column:
    return Column(
        title, name,
        lambda model, device: Cell(
            form(value_of(model, name, device)), "", name, _observations(model, name, device)
        ),
    )  # fmt: skip


def _observations(model: dict[str, Any], name: str, device: str | None) -> int:
    found = measured(model, name, device)
    return int(found["n"]) if found else 0


def _exact_match(model: dict[str, Any], device: str | None) -> Cell:
    found = measured(model, "exact_match", device)
    n = int(found["n"]) if found else 0
    text = percent(value_of(model, "exact_match", device))
    return Cell(text, interval(found), "exact_match", n)


def _canary(model: dict[str, Any], device: str | None) -> Cell:
    found = measured(model, "canary_exposure", device)
    if found is None:
        return Cell(NONE)
    low, high = found["ci95"] or (found["value"], found["value"])
    text = f"{found['value']:.2f} bits"
    return Cell(text, f"{low:.2f}–{high:.2f}", "canary_exposure", int(found["n"]))


def _latency(title: str, name: str) -> Column:
    """The median, with the 95th percentile below it."""
    median = f"{name}_p50"

    def cell(model: dict[str, Any], device: str | None) -> Cell:
        slow = value_of(model, f"{name}_p95", device)
        below = f"p95 {milliseconds(slow)}" if slow is not None else ""
        text = milliseconds(value_of(model, median, device))
        return Cell(text, below, median, _observations(model, median, device))

    return Column(title, median, cell)


def _bits(model: dict[str, Any], device: str | None) -> Cell:
    bits = model.get("bits_per_weight")
    return Cell(NONE if bits is None else significant(float(bits)), "", "bits_per_weight", 1)


def _size(model: dict[str, Any], device: str | None) -> Cell:
    return Cell(size(model["bytes"]), "", "bytes", 1)


DECODE = "Decode tok/s"
COLUMNS = (
    Column("Exact match", "exact_match", _exact_match),
    _number("Without leaks", "exact_match_without_leaks", percent),
    _number("Perplexity", "perplexity", small),
    _number("Bits per byte", "bits_per_byte", small),
    _number("KL to teacher", "kl_answer_tokens", small),
    _number("Top-1", "top1_answer_tokens", percent),
    Column("Canary exposure", "canary_exposure", _canary),
    Column("Size", "bytes", _size),
    Column("Bits per weight", "bits_per_weight", _bits),
    _latency("First token", "ttft_ms"),
    _latency("Per token", "tpot_ms"),
    _number(DECODE, "decode_tokens_per_s", rate),
    _number("Decode tok/s, depth\u00a00", "decode_tokens_per_s_depth_0", rate),
    _number("Peak memory", "peak_rss_bytes", size),
    _number("Peak GPU memory", "peak_vram_bytes", size),
)


def model_rows(
    models: Sequence[dict[str, Any]],
) -> tuple[list[Column], list[tuple[dict[str, Any], str | None, list[Cell]]]]:
    """Return the columns that hold anything, and (model, device, cells) for each row.

    A model that was measured on two devices has two rows.
    """
    pairs: list[tuple[dict[str, Any], str | None]] = []
    for model in models:
        pairs += [(model, device) for device in devices_of(model)] or [(model, None)]
    grid = [[column.cell(model, device) for column in COLUMNS] for model, device in pairs]
    used = [i for i in range(len(COLUMNS)) if any(row[i].text != NONE for row in grid)]
    rows = [
        (model, device, [cells[i] for i in used])
        for (model, device), cells in zip(pairs, grid, strict=True)
    ]
    depth = depth_of(models)
    return [_with_depth(COLUMNS[i], depth) for i in used], rows


def speed_settings(models: Sequence[dict[str, Any]]) -> str:
    """Return what the times were measured with, a sentence; nothing where that is not known."""
    places = [
        one["where"]
        for model in models
        for one in model.get("measurements", ())
        if one["name"] == "decode_tokens_per_s" and "kv_cache" not in one["where"]
    ]
    values = [sorted({place.get(key, 0) for place in places}) for key in _SETTINGS]
    if not places or any(0 in found for found in values):
        return ""
    prompt, new, threads = (" or ".join(map(str, found)) for found in values)
    cache = " llama.cpp's KV cache is f16." if any(m["format"] == "gguf" for m in models) else ""
    return (
        f"Speed: prompts of {prompt} tokens, answers of {new}, CPU threads: {threads}. The first "
        f"token's time and prefill include its choice and no tokenizing.{cache}"
    )


_SETTINGS = ("prompt_tokens", "new_tokens", "threads")


def _with_depth(column: Column, depth: int | None) -> Column:
    """Name how full the KV cache was: llama-bench decodes into an empty one by default."""
    if column.title != DECODE or depth is None:
        return column
    return replace(column, title=f"{DECODE}, depth\u00a0{depth}")


CACHE_TITLES = ("File", "KV cache", "Exact match", "KL to teacher", "Decode tok/s", "Peak memory")


def cache_rows(models: Sequence[dict[str, Any]]) -> list[tuple[str, str, list[Cell]]]:
    """Return (file, type, cells) for each file that was measured with several KV caches.

    The first row of a file is llama.cpp's default, f16.
    """
    shown = [column for column in COLUMNS if column.title in CACHE_TITLES]
    rows = []
    for model in models:
        types = [m["where"]["kv_cache"] for m in model["measurements"] if "kv_cache" in m["where"]]
        for name in ("f16", *dict.fromkeys(types)) if types else ():
            one = model if name == "f16" else through_cache(model, name)
            rows.append((str(model["name"]), name, [column.cell(one, None) for column in shown]))
    return rows


#: Titles of what a stage took, and the figures; the third is left out where no GPU was used.
_RESOURCES = (("Time", "seconds"), ("Peak memory", "ram_bytes"), ("Peak GPU memory", "gpu_bytes"))


def resource_rows(
    resources: Sequence[dict[str, Any]],
) -> tuple[list[str], list[tuple[str, list[Cell]]]]:
    """Return the titles, and (stage, cells) of each stage: measured, with the plan below."""
    used = [
        (title, name)
        for title, name in _RESOURCES
        if any(row["measured"][name] for row in resources)
    ]
    rows = []
    for row in resources:
        cells = []
        for _, name in used:
            form = _seconds if name == "seconds" else size
            measured_value, planned = resource_pair(row, name)
            below = f"plan {form(planned)}" if planned else ""
            cells.append(Cell(form(measured_value), below, f"stage_{name}", 1))
        rows.append((str(row["stage"]), cells))
    return [title for title, _ in used], rows


def _seconds(value: float) -> str:
    return milliseconds(1000 * value) if value < 60 else clock(value)


def not_measured_lines(models: Sequence[dict[str, Any]]) -> list[str]:
    """Return a sentence for each model and device that it was not measured on: the reason."""
    return [
        f"{model['name']} was not measured on {one['device']}: {one['why']}."
        for model in models
        for one in model.get("not_measured") or ()
    ]


def describe(model: dict[str, Any], device: str | None) -> str:
    """``gguf Q4_K_M · llama.cpp · cpu, 2 threads``."""
    where = next(
        (one["where"] for one in model.get("measurements", ()) if one["where"]["device"] == device),
        None,
    )
    what = "Hugging Face" if model["format"] == "hf" else model["format"].upper()
    parts = [" ".join(part for part in (what, model.get("scheme")) if part)]
    if where:
        dtype = f" in {where['dtype']}" if "dtype" in where else ""
        parts.append(f"{where['runtime']}, {where['device']}{dtype}")
    return " · ".join(parts)


def machine_rows(machine: dict[str, Any]) -> list[tuple[str, str]]:
    """Return title and text of each property of the machine that is known."""
    rows = []
    for key, value in machine.items():
        if value in (None, [], {}, ""):
            continue
        if key.endswith("_bytes"):
            text = size(value)
        elif isinstance(value, dict):
            text = " · ".join(f"{name} {item}" for name, item in value.items())
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        rows.append((key.removesuffix("_bytes").replace("_", " "), text))
    return rows


def parent_names(artifact: dict[str, Any]) -> str:
    """Return the names of the stages and sources that an artifact was made of."""
    return ", ".join(name.removeprefix("source:") for name in artifact.get("parents", {}))
