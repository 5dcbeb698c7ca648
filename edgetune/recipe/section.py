"""What every section of the recipe is made of: the base class and the values' types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


def expand_home(path: str) -> str:
    """Return the path with a leading ``~`` or ``~user`` replaced, where there is such a home."""
    if not path.startswith("~"):
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError:  # no such user
        return path


PathText = Annotated[str, AfterValidator(expand_home)]


class Section(BaseModel):
    """A part of the recipe: frozen, and strict about its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
