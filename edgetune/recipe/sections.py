"""The sections a stage may read, and no others."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from edgetune.recipe.schema import Recipe


class Sections:
    """The sections a stage declared, and no others, so that its key covers all it can read."""

    def __init__(self, recipe: Recipe, names: tuple[str, ...]) -> None:
        self._values: dict[str, Any] = {name: getattr(recipe, name) for name in names}
        self.seed = recipe.seed

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_values"][name]
        except KeyError:
            raise AttributeError(f"the stage did not declare the recipe section '{name}'") from None

    def dump(self) -> dict[str, Any]:
        """Return plain JSON values, for the artifact's key."""
        plain = {
            name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            for name, value in self._values.items()
        }
        return {"seed": self.seed, **plain}
