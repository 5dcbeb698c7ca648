"""The section ``bench.fairness``: the same rows with another person in them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictInt, StrictStr

from edgetune.recipe.section import Count, PathText, Section

#: What a classifier may be called: its metrics are named after it.
ClassifierName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]


class ClassifierSection(Section):
    """A model that classifies answers, by the name that the report calls its label."""

    model: PathText = Field(
        description="Hugging Face folder of a sequence classifier with safetensors, or a hub id"
    )
    label: StrictStr | StrictInt = Field(
        description="the label that counts: its name in the model's id2label, or its number"
    )


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
    classifier: dict[ClassifierName, ClassifierSection] | None = Field(
        None,
        description="models that classify every answer, by name, such as {toxicity: {model: "
        "FOLDER, label: toxic}}: how probable is the label, and does it differ between models and "
        "groups?",
    )
