"""Where a study is kept: a journal in the sweep's folder, or a database, which may be down."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import SQLAlchemyError

from edgetune.errors import InputError, nearest
from edgetune.log import Log

T = TypeVar("T")
JOURNAL = "study.log"
#: Drivers by scheme; that of PostgreSQL is installed by the extra `sweep`.
DRIVERS = {"postgresql": "postgresql+psycopg", "sqlite": "sqlite"}
#: What a storage raises that does not answer.
DOWN = (StorageInternalError, SQLAlchemyError, OSError)
#: Seconds that a storage is waited for once work is done, and between two attempts.
PATIENCE = 600.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
_ADDRESS = re.compile(r"([a-z0-9]+)(?:\+\w+)?(://.*)", re.DOTALL)
_PASSWORD = re.compile(r"(://[^:/@\s]*):[^@\s]*@")


def open_storage(storage: str | None, folder: Path) -> BaseStorage:
    """Open a database, or the journal in ``folder``.

    Raises:
        InputError: not the URL of a PostgreSQL or SQLite database.
    """
    if storage is None:
        return JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    return RDBStorage(read_address(storage), engine_kwargs={"pool_pre_ping": True})


def read_address(storage: str) -> str:
    """Return a database's URL with the driver for it.

    Raises:
        InputError: not the URL of a PostgreSQL or SQLite database.
    """
    match = _ADDRESS.fullmatch(storage)
    named = match[1] if match else storage
    if match is None or named not in DRIVERS:
        raise InputError(
            f"'{hide_password(storage)}' is no study database{nearest(named, DRIVERS)}",
            where="--storage",
            hint="postgresql://USER@HOST/DATABASE or sqlite:///FILE.db; a password in PGPASSWORD "
            "or ~/.pgpass",
        )
    return DRIVERS[named] + match[2]


def hide_password(text: str) -> str:
    """Return a text with the passwords of its URLs replaced."""
    return _PASSWORD.sub(r"\1:***@", text)


def describe_fault(error: BaseException) -> str:
    """Return the first line of what a storage raised."""
    cause = error.__cause__ or error
    lines = str(cause).strip().splitlines()
    return hide_password(lines[0]) if lines else type(cause).__name__


def call_patiently(call: Callable[[], T], where: str, log: Log) -> T:
    """Call a storage that may be down for a while.

    Raises:
        InputError: it did not answer for :data:`PATIENCE` seconds.
    """
    ends, pause = time.monotonic() + PATIENCE, FIRST_PAUSE
    while True:
        try:
            return call()
        except DOWN as error:
            if time.monotonic() >= ends:
                raise InputError(
                    f"the study's database does not answer: {describe_fault(error)}",
                    where=where,
                    hint="what was made is kept; the same command reports it and goes on",
                ) from error
            if pause == FIRST_PAUSE:
                log.warn("the study's database does not answer; waiting for it")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
