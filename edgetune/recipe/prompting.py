"""The section ``bench.prompting``: what the untouched base does with a better prompt."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgetune.recipe.section import PathText, Section


class PromptingSection(Section):
    """Prompts of the untouched base that the tuned model is compared with."""

    shots: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = Field(
        (0, 4), description="answered train rows that a prompt shows as earlier turns; 0 is none"
    )
    choose: Literal["random", "similar"] = Field(
        "random",
        description="how these rows are chosen: by the seed, or by the similarity of their prompts "
        "to the question",
    )
    system: str | None = Field(
        None,
        min_length=1,
        description="system prompt; the base is asked without it and with it, and a row's own "
        "system message goes after it",
    )
    larger: PathText | None = Field(
        None, description="a larger model that is asked too: a folder or a hub id"
    )
