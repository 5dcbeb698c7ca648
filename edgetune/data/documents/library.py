"""Libraries that read documents, which the extra ``documents`` brings."""

from __future__ import annotations

import importlib
from types import ModuleType

from edgetune.errors import InputError


def need(name: str, where: str) -> ModuleType:
    """Import a library.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"this needs {name}, which is not installed",
            where=where,
            hint="pip install 'edgetune[documents]'",
        ) from error
