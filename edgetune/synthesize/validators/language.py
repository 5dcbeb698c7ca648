"""The language of written prompts."""

from __future__ import annotations

from collections.abc import Sequence

from edgetune.data.clean.language import find_language
from edgetune.synthesize.draft import Draft
from edgetune.synthesize.validators import Scene


class LanguageCheck:
    """Prompts are in the language that the recipe names; short and unclear ones pass."""

    def __init__(self, scene: Scene) -> None:
        self._wanted = scene.section.validators.language

    def find_faults(self, drafts: Sequence[Draft]) -> list[str]:
        found = [find_language(draft.asked) for draft in drafts]
        return ["" if one in (None, self._wanted) else f"language: {one}" for one in found]

    def accept(self, drafts: Sequence[Draft]) -> None:
        """Nothing is remembered."""
