"""Several chat templates of one tokenizer as one, which every format and runtime can carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgetune.errors import InputError


def fold_templates(template: Any, where: str) -> str | None:
    """Return one template that renders what transformers chooses of several by name.

    That is ``tool_use`` for a conversation with tools, where there is such a template, and
    ``default`` for all others.

    Args:
        template: a template, or several: ``{name: template}``, or as tokenizer_config.json has
            them, ``[{"name", "template"}]``.
        where: the tokenizer, for errors.

    Raises:
        InputError: several, and none is the default.
    """
    if template is None or isinstance(template, str):
        return template
    if isinstance(template, Sequence):
        template = {one["name"]: one["template"] for one in template}
    assert isinstance(template, Mapping)
    if "default" not in template:
        raise InputError(
            f"the tokenizer has chat templates by name ({', '.join(template)}), and no 'default'",
            where=where,
            hint="name one of them default, or data.template: plain",
        )
    default, tool_use = (template.get(name) for name in ("default", "tool_use"))
    if tool_use is None or tool_use == default:
        return str(default)
    # Jinja drops a newline behind a tag, and one at the end of the whole template.
    first, second = (_inner(str(one)) for one in (tool_use, default))
    return f"{{% if tools %}}{first}{{% else %}}{second}{{% endif %}}"


def _inner(template: str) -> str:
    """A template that keeps its outer white space inside of another's tags."""
    return "{{ '' }}" + template.removesuffix("\n") + "{{ '' }}"
