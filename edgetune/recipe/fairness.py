"""The section ``bench.fairness``: the same rows with another person in them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgetune.recipe.section import Count, PathText, Section


class FairnessSection(Section):
    """Rows whose names, pronouns, ages or origins are exchanged, for every model and file."""

    attributes: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        ("gender", "origin", "age"),
        description="what is exchanged: gender, origin, age, and any attribute of lists",
    )
    rows: Count = Field(64, description="rows of each attribute, of those that have its words")
    lists: PathText | None = Field(
        None,
        description="YAML file of words, like edgetune/fairness/lists.yaml; absent: those lists",
    )
    template: str | None = Field(
        None,
        description="gives a name to rows without one: a text with {name} and {prompt}, such as "
        "'{name} asks: {prompt}'",
    )
