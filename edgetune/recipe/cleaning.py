"""The recipe's section `data.clean`: what is checked in rows, and what is changed or dropped."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from edgetune.recipe.section import Count, PathText, Section

Mode = Literal["off", "warn", "fix"]


def _read_off(value: Any) -> Any:
    """YAML reads a bare ``off`` as false."""
    return "off" if value is False else value


Step = Annotated[Mode, BeforeValidator(_read_off)]
Listed = Annotated[Literal["off", "warn"], BeforeValidator(_read_off)]


class CleanSection(Section):
    """Steps of cleaning, each off, warn (report) or fix (change or drop, and report)."""

    encoding: Step = Field("fix", description="mojibake, control characters, split accents")
    language: Step = Field("warn", description="rows in none of languages; fix drops them")
    languages: tuple[Annotated[str, Field(pattern="^[a-z]{2,3}$")], ...] = Field(
        (), description="wanted languages (ISO 639-1, as en); empty: any"
    )
    length: Step = Field("warn", description="rows outside the bounds; fix drops them")
    min_characters: Count | None = Field(None, description="fewest characters of a row")
    max_characters: Count | None = Field(None, description="most characters of a row")
    repetition: Step = Field("warn", description="rows that repeat themselves; fix drops them")
    max_repetition: float = Field(
        0.5, gt=0, le=1, description="fraction of a text that may occur earlier in it"
    )
    pii: Step = Field(
        "warn",
        description="mail addresses, phone, card and account numbers, IP addresses, keys; fix "
        "writes placeholders",
    )
    names_model: PathText | None = Field(
        None, description="folder of a token-classification model that finds names of people"
    )
    duplicates: Step = Field("warn", description="equal rows; fix keeps the first")
    near_duplicates: Step = Field("warn", description="similar rows; fix keeps the first")
    similarity: float = Field(
        0.8, ge=0.5, le=1, description="Jaccard similarity from which rows are near duplicates"
    )
    leakage: Step = Field(
        "warn", description="train rows similar to test or validation rows; fix drops them"
    )
    labels: Listed = Field("warn", description="labels that a classifier disagrees with")
    max_per_label: Count | None = Field(None, description="most train rows of a label")
    max_per_cluster: Count | None = Field(
        None, description="most train rows of a cluster of near duplicates"
    )

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        low, high = self.min_characters, self.max_characters
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_characters ({low}) is above max_characters ({high})")
        return self


#: All steps off.
NO_CLEANING = CleanSection(
    encoding="off", language="off", length="off", repetition="off", pii="off", duplicates="off",
    near_duplicates="off", leakage="off", labels="off",
)  # fmt: skip
