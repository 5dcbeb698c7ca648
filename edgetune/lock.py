"""One process at a time writes into a folder; the next is told who does.

The lock is the system's (flock(2)), so that it is free again however its holder ended. The file
says for whom it is held: process, machine, since when and by which command.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from edgetune.disk import explain_place, make_folder
from edgetune.errors import InputError

NAME = "lock"  # in a run's folder


@contextmanager
def hold(path: Path, what: str, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs.

    Args:
        path: the file; it and its folder are made, and the file is removed afterwards.
        what: what only one may write, for the message.
        wait: where another holds it, is told so once, and the block waits; ``None`` raises.

    Raises:
        InputError: another process holds it, or the file cannot be made.
    """
    made = not path.parent.exists()
    make_folder(path.parent)
    file = _take(path, what, wait)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()  # and with it the lock
        if made:
            with suppress(OSError):  # nothing came of it: leave no trace
                path.parent.rmdir()


def _take(path: Path, what: str, wait: Callable[[str], None] | None) -> TextIO:
    while True:
        try:
            file = path.open("a+", encoding="utf-8")
        except (OSError, ValueError) as error:
            raise explain_place(error, path) from error
        if not _lock(file):
            holder = _read_holder(file)
            if wait is None:
                file.close()
                raise InputError(
                    f"another edgetune writes {what}: {holder}",
                    where=str(path.parent),
                    hint="wait until it has ended, or name another --out",
                )
            wait(f"waiting for another edgetune that writes {what}: {holder}")
            fcntl.flock(file, fcntl.LOCK_EX)
        if _is_still(file, path):
            break
        file.close()  # its holder removed it between our opening it and our locking it
    file.seek(0)
    file.truncate()
    json.dump(_describe(), file)
    file.flush()
    return file


def _lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # a file system without locks
        raise InputError(
            f"this file system has no file locks ({error.strerror}), so two runs could destroy "
            "each other's work",
            where=file.name,
            hint="name an --out on another one",
        ) from error
    return True


def _is_still(file: TextIO, path: Path) -> bool:
    """Whether the path still leads to the file that was locked."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _describe() -> dict[str, str | int]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": shlex.join(sys.argv),
    }


def _read_holder(file: TextIO) -> str:
    file.seek(0)
    try:
        found = json.loads(file.read())
        return (
            f"process {found['pid']} on {found['host']}, since {found['since']}: "
            f"{found['command'][:300]}"
        )
    except (ValueError, KeyError, TypeError):
        return "it has only just begun"
