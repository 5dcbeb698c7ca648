"""Errors a person can act on: what is wrong, where, and what to do about it.

They are raised where the faulty value is used and caught once, in ``edgetune.cli``.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class EdgetuneError(Exception):
    """Something edgetune can explain. ``exit_code`` is what the command line ends with.

    Args:
        what: the fault, in one sentence.
        where: the place: ``file:key``, ``file:line``, a tensor's name, with the numbers.
        hint: what to do about it.
        result: what the command found out all the same, for those who asked for JSON.
    """

    exit_code = 1

    def __init__(
        self, what: str, *, where: str = "", hint: str = "", result: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint
        self.result = dict(result or {})

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.hint:
            lines.append(f"  → {self.hint}")
        return "\n".join(lines)


class InputError(EdgetuneError):
    """The user's input cannot be used: usage, recipe, data, a missing or foreign file."""

    exit_code = 2


@contextmanager
def reading(what: str, where: str) -> Iterator[None]:
    """Turn whatever a library raises over a file into an :class:`InputError`.

    A panic of Rust code arrives as a BaseException that is no Exception, from ``tokenizers`` for
    some broken files.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(f"{what}: {error}", where=where) from error


class Unsupported(InputError):
    """A model, shape or vocabulary that a format or runtime cannot hold, found before any work."""


class MachineFault(EdgetuneError):
    """The disk or the memory gave out. It says nothing of the model: the same command may go on."""


_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}
_MEMORY = {errno.ENOMEM, errno.EMFILE, errno.ENFILE}
_WORDS = {
    "disk": ("no space left on device", "disk quota exceeded", "input/output error"),
    "memory": (
        "bad_alloc", "bad allocation", "allocate memory", "out of memory", "unable to allocate",
    ),
}  # fmt: skip


def raise_machine_fault(error: BaseException, where: str) -> None:
    """Raise :class:`MachineFault` if ``error`` is one of disk or memory, or came of one.

    Libraries wrap such errors in kinds of their own and keep the words of the C library; who takes
    any error of theirs for a refusal asks this first.
    """
    one: BaseException | None = error
    seen: set[int] = set()
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        kind = _fault_of(one)
        if kind is not None:
            said = str(error) or type(error).__name__
            raise MachineFault(
                "the disk is full or fails" if kind == "disk" else "the memory does not suffice",
                where=f"{where}: {said[:200]}",
                hint=f"make room on the {kind}"
                if kind == "disk"
                else "free memory, or use a "
                "larger machine; the same command goes on from what is finished",
            ) from error
        one = one.__cause__ or one.__context__


def _fault_of(error: BaseException) -> str | None:
    """Return ``disk``, ``memory``, or ``None`` for another fault."""
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, OSError) and error.errno is not None:
        return "disk" if error.errno in _DISK else "memory" if error.errno in _MEMORY else None
    if isinstance(error, EdgetuneError):
        return None
    words = str(error).lower()
    return next((kind for kind, said in _WORDS.items() if any(w in words for w in said)), None)


class GateFailed(EdgetuneError):
    """A measured value crossed a limit that the recipe or the product promises."""

    exit_code = 3


class Interrupted(EdgetuneError):
    """Stopped by Ctrl-C or SIGTERM after saving; the same command continues."""

    exit_code = 130


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest of ``valid``, or an empty string."""
    match = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.5)
    return f" (did you mean '{match[0]}'?)" if match else ""
