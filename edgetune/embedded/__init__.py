"""What edgetune carries with it: a small base model and a task to tune it on.

`base` is a Llama-style model of 9.7 million parameters with its tokenizer, `devices` holds
spoken-style device commands with their JSON calls. Both were made by `tools.embedded`.
"""

from __future__ import annotations

from pathlib import Path

_ROOT = Path(__file__).parent
_NOT_DATA = {"__pycache__", "__init__.py"}


def locate(name: str) -> Path:
    """The path of an embedded file or folder, such as "base" or "devices/train.jsonl".

    Raises:
        FileNotFoundError: nothing of that name is embedded; the message lists what is.
    """
    path = _ROOT / name
    inside = _ROOT in path.resolve().parents and path.relative_to(_ROOT).parts[0] not in _NOT_DATA
    if inside and path.exists():
        return path
    found = sorted(
        child.relative_to(_ROOT).as_posix()
        for child in _ROOT.rglob("*")
        if child.relative_to(_ROOT).parts[0] not in _NOT_DATA
    )
    raise FileNotFoundError(f"no embedded {name!r}; there are: {', '.join(found)}")
