"""The budget of a file: bytes, bits per weight, KL, or memory or time measured on this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from edgetune.errors import InputError, nearest
from edgetune.recipe import GGUF_SCHEMES

KINDS = ("bytes", "bits", "kl", "ram", "tpot")
#: Those that are measured by running files.
MEASURED = ("ram", "tpot")
FORMATS = ("gguf", "onnx")
#: Schemes whose bytes can be a budget, by format.
_LIKE = {"gguf": GGUF_SCHEMES, "onnx": ("int8", "int4")}
_BYTES = {
    "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
}  # fmt: skip
_UNITS: dict[str, Mapping[str, float]] = {
    "bytes": {"": 1, **_BYTES},
    "bits": {"": 1},
    "kl": {"": 1},
    "ram": _BYTES,
    "tpot": {"ms": 1e-3, "s": 1, "us": 1e-6},
}
#: The text before and after the amount in a file's name.
_NAMED = {"bytes": ("", ""), "bits": ("", "bpw"), "kl": ("kl", ""), "ram": ("ram", ""),
          "tpot": ("tpot", "")}  # fmt: skip
_BUDGET = re.compile(r"(?:(\w+):)?(\w+)=(.+)")
_NUMBER = re.compile(r"([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([A-Za-z]*)")


@dataclass(frozen=True)
class Budget:
    """A limit that the file of a search must meet.

    Attributes:
        kind: one of :data:`KINDS`.
        value: bytes, bits per weight, nats, bytes or seconds; none where ``like`` is given.
        like: a scheme whose own bytes are the budget, such as ``Q4_K_M``.
        name: of the file.
        format: one of :data:`FORMATS`.
    """

    kind: str
    value: float | None
    like: str | None
    name: str
    format: str = "gguf"


def parse_budget(text: str) -> Budget:
    """Read a budget.

    ``bytes=2.5MB``, ``bytes=Q4_K_M`` (as many as that scheme's), ``bits=4.5``, ``kl=0.02``,
    ``ram=800MB`` (peak resident memory) or ``tpot=12ms`` (median time per output token); before it
    ``onnx:`` where an ONNX folder is meant, whose schemes are ``int8`` and ``int4``.

    Args:
        text: as it is written in the recipe.

    Raises:
        InputError: it is none of these.
    """
    match = _BUDGET.fullmatch(text.strip())
    where = f"quantize.budget: {text}"
    if match is None:
        raise InputError("not a budget", where=where, hint="write it as bytes=2.5MB or kl=0.02")
    container, kind, amount = match[1] or "gguf", match[2], match[3].strip()
    if container not in FORMATS:
        raise InputError(
            f"no format '{container}'{nearest(container, FORMATS)}", where=where,
            hint=f"one of {', '.join(FORMATS)}",
        )  # fmt: skip
    if kind not in KINDS:
        raise InputError(
            f"no budget '{kind}'{nearest(kind, KINDS)}", where=where,
            hint=f"one of {', '.join(KINDS)}",
        )  # fmt: skip
    if kind == "bytes" and amount in _LIKE[container]:
        return Budget(kind, None, amount, f"auto-{amount}", container)
    number = _NUMBER.fullmatch(amount)
    units = _UNITS[kind]
    if number is None or number[2] not in units or float(number[1]) <= 0:
        named = ", ".join(unit for unit in units if unit)
        raise InputError(
            f"'{amount}' is no amount of {kind}", where=where,
            hint=f"a number above 0{' and one of ' + named if named else ''}"
            + ("; or a scheme whose bytes are meant" if kind == "bytes" else ""),
        )  # fmt: skip
    before, after = _NAMED[kind]
    name = f"auto-{before}{number[1]}{number[2]}{after}"
    return Budget(kind, float(number[1]) * units[number[2]], None, name, container)
