"""Refuse a teacher that cannot be asked, before any work: none, no address, no key, no leave."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from edgetune.errors import InputError
from edgetune.recipe import DataSection, SynthesizeSection


def check_teacher(section: SynthesizeSection, data: DataSection) -> None:
    """Refuse a recipe without a teacher, or with an endpoint for rows that must not leave.

    Raises:
        InputError: names the key.
    """
    if not section.teacher and not section.endpoint:
        raise InputError(
            "no teacher is named",
            where="synthesize.teacher",
            hint="name a model folder, a GGUF file, what `edgetune tune` made, or an endpoint",
        )
    if section.endpoint and data.confidential:
        raise InputError(
            "these rows are confidential, and an endpoint would be sent them",
            where=f"synthesize.endpoint: {', '.join(data.confidential)}",
            hint="name a local model as synthesize.teacher",
        )
    if section.endpoint:
        check_address(section.endpoint)
        read_key(section.key_env)


def check_address(endpoint: str) -> str:
    """Return the address that requests go to.

    Raises:
        InputError: not http or https, no host, or with a password in it.
    """
    try:
        parts = urlsplit(endpoint)
        host, secret = parts.hostname, parts.password or parts.username
    except ValueError as error:
        raise InputError(f"not an address: {error}", where="synthesize.endpoint") from error
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise InputError(
            "not the address of a server",
            where="synthesize.endpoint",
            hint="write http://127.0.0.1:8080/v1, say",
        )
    if secret:
        raise InputError(
            "the address holds a name or password, which rows and logs would show",
            where="synthesize.endpoint",
            hint="put the key into an environment variable and name it: synthesize.key_env",
        )
    return endpoint.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"


def read_key(name: str | None) -> str:
    """Return the endpoint's key from the environment; empty where the recipe names no variable.

    Raises:
        InputError: not set, or no key; what it holds is not shown.
    """
    if name is None:
        return ""
    key = os.environ.get(name, "").strip()
    if not key:
        raise InputError(
            f"the environment variable {name} is not set",
            where="synthesize.key_env",
            hint=f"export {name}=… holds the endpoint's key",
        )
    if not key.isprintable() or not key.isascii():
        raise InputError(f"what {name} holds is no key of a server", where="synthesize.key_env")
    return key
