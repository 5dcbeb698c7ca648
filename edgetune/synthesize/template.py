"""Templates: what a teacher is sent, text with places that a row's parts are put into."""

from __future__ import annotations

import hashlib
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edgetune.errors import InputError

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True)


class Template:
    """A text with ``{{ prompt }}``, ``{{ answer }}`` and ``{{ examples }}``.

    Rendered in Jinja's sandbox; what a row holds is put in as text and never read as a template.

    Raises:
        InputError: not a template.
    """

    def __init__(self, source: str, where: str) -> None:
        self._where = where
        self.version = hashlib.sha256(source.encode()).hexdigest()[:12]
        try:
            self._template = _ENVIRONMENT.from_string(source)
        except TemplateError as error:
            raise InputError(f"not a template: {error}", where=where) from error

    def render(self, **values: Any) -> str:
        """Return the text with the values in their places.

        Raises:
            InputError: a name that the task does not give, or a fault inside the template.
        """
        try:
            return self._template.render(**values).strip()
        except Exception as error:  # whatever an expression in it does
            known = ", ".join(sorted(values))
            raise InputError(
                f"the template cannot be rendered: {error}",
                where=self._where,
                hint=f"it is given {known}",
            ) from error
