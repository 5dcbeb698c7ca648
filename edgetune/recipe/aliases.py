"""ALIASES: recipe keys and values of the last release that have another name now.

Both are read for one release, with one warning each, and written by their new names.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgetune.errors import InputError

#: A value that needs no key any more: an alias that maps to it leaves the key out.
OMIT = object()


@dataclass(frozen=True)
class Alias:
    """One renaming.

    Attributes:
        old: dotted key of the last release: a value's, or a whole section's.
        new: the key that is read now; equal to ``old`` where only values have another name.
        values: old value to new value, in lists too; values that are not here stay as they are.
        overrides: values of the new key that the old one had precedence over.
    """

    old: str
    new: str
    values: Mapping[Hashable, Any] = field(default_factory=dict)
    overrides: tuple[Hashable, ...] = ()


#: Blocks of MatMulNBits, in recipes and plans: S was symmetric, Z had a zero point.
MATRIX_TYPES: dict[Hashable, str] = {
    **{f"S{bits}_{size}": f"int{bits}_g{size}" for bits in (8, 4) for size in (64, 128)},
    **{f"Z{bits}_{size}": f"uint{bits}_g{size}" for bits in (4, 2) for size in (32, 64, 128)},
}
ALIASES: tuple[Alias, ...] = (
    Alias("quantize.types", "quantize.types", MATRIX_TYPES),
    Alias("quantize.target", "quantize.budget"),
    Alias("quantize.grid", "quantize.qat"),
    Alias("quantize.method", "quantize.method", {"ggml": "rtn", "grid": "qat"}),
    Alias("quantize.train", "quantize.method", {True: "qat", False: OMIT}, overrides=("gptq",)),
)


def rename_key(key: str, aliases: tuple[Alias, ...] | None = None) -> str:
    """Return the present name of a key of the same kind of value, or in a renamed section."""
    for alias in ALIASES if aliases is None else aliases:
        if alias.values:  # its value has another kind
            continue
        if key == alias.old or key.startswith(f"{alias.old}."):
            key = alias.new + key[len(alias.old) :]
    return key


def apply_aliases(
    tree: dict[str, Any], where: str, aliases: tuple[Alias, ...] | None = None
) -> list[str]:
    """Rename old keys and values of a recipe's plain values in place.

    Returns:
        A warning for each old name that was found.

    Raises:
        InputError: a key is given by its old and by its new name.
    """
    return [
        warning
        for alias in (ALIASES if aliases is None else aliases)
        for warning in _apply(alias, tree, where)
    ]


def old_values(key: str) -> tuple[str, ...]:
    """Return the old texts of a key that are still read, which its option accepts too."""
    aliases = (alias for alias in ALIASES if alias.old == alias.new == key)
    return tuple(old for alias in aliases for old in alias.values if isinstance(old, str))


def _apply(alias: Alias, tree: dict[str, Any], where: str) -> Iterator[str]:
    section, key = _find(tree, alias.old)
    if section is None or key not in section:
        return
    given = section[key]
    value = _map(given, alias.values)
    if alias.new == alias.old:
        if value != given:
            section[key] = value
            yield f"{where}: {alias.old}: {_text(given)} is now {alias.old}: {_text(value)}"
        return
    del section[key]
    if value is OMIT:
        yield f"{where}: {alias.old}: {_text(given)} is the default and no key any more"
        return
    section, key = _make(tree, alias.new)
    if key in section and section[key] not in (value, *alias.overrides):
        raise InputError(
            f"'{alias.old}' is the old name of '{alias.new}', and both are given",
            where=where,
            hint=f"keep {alias.new}",
        )
    section[key] = value
    renamed = f"{alias.new}: {_text(value)}" if value != given else alias.new
    yield f"{where}: {alias.old} is now {renamed}; the old name goes with the next release"


def _map(value: Any, values: Mapping[Hashable, Any]) -> Any:
    if isinstance(value, list | tuple):
        return [_map(item, values) for item in value]
    return values.get(value, value) if isinstance(value, Hashable) else value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _find(tree: dict[str, Any], key: str) -> tuple[dict[str, Any] | None, str]:
    *parents, last = key.split(".")
    section: Any = tree
    for part in parents:
        section = section.get(part) if isinstance(section, dict) else None
    return (section if isinstance(section, dict) else None), last


def _make(tree: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    *parents, last = key.split(".")
    for part in parents:
        if not isinstance(tree.get(part), dict):
            tree[part] = {}
        tree = tree[part]
    return tree, last
