"""The sections a stage may read, and no others."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

from pydantic import BaseModel

from edgetune.recipe.data import DataSection
from edgetune.recipe.quantization import QuantizeSection
from edgetune.recipe.schema import (
    BenchSection,
    ExportSection,
    MergeSection,
    ModelSection,
    Recipe,
    Requests,
)
from edgetune.recipe.synthesis import SynthesizeSection
from edgetune.recipe.tokenizer import TokenizerSettings
from edgetune.recipe.training import DistillSection, TuneSection

T = TypeVar("T")


class Sections:
    """The sections a stage declared, and no others, so that its key covers all it can read.

    Raises:
        AttributeError: a section is read that the stage did not declare, or that the recipe lacks.
    """

    def __init__(self, recipe: Recipe, names: tuple[str, ...]) -> None:
        self._values: dict[str, Any] = {name: getattr(recipe, name) for name in names}
        self.seed = recipe.seed

    @property
    def file_name(self) -> str:
        """Name of the files that export writes."""
        return self._read("file_name", str)

    @property
    def device(self) -> str:
        """The recipe's ``model.device``."""
        return self._read("device", str)

    @property
    def tokenizer(self) -> TokenizerSettings:
        """The base's tokenizer and the end token of answers."""
        return self._read("tokenizer", TokenizerSettings)

    @property
    def model(self) -> ModelSection:
        return self._read("model", ModelSection)

    @property
    def data(self) -> DataSection:
        return self._read("data", DataSection)

    @property
    def synthesize(self) -> SynthesizeSection:
        return self._read("synthesize", SynthesizeSection)

    @property
    def tune(self) -> TuneSection:
        return self._read("tune", TuneSection)

    @property
    def distill(self) -> DistillSection:
        return self._read("distill", DistillSection)

    @property
    def merge(self) -> MergeSection:
        return self._read("merge", MergeSection)

    @property
    def quantize(self) -> QuantizeSection:
        return self._read("quantize", QuantizeSection)

    @property
    def export(self) -> ExportSection:
        return self._read("export", ExportSection)

    @property
    def bench(self) -> BenchSection:
        return self._read("bench", BenchSection)

    @property
    def requests(self) -> Requests:
        """The requests that bench times, by which a search measures memory and time."""
        return self._read("requests", Requests)

    def has(self, name: str) -> bool:
        """Whether a declared section is in the recipe."""
        return self._values[name] is not None

    def _read(self, name: str, kind: type[T]) -> T:
        if name not in self._values:
            raise AttributeError(f"the stage did not declare the recipe section '{name}'")
        value = self._values[name]
        if not isinstance(value, kind):
            raise AttributeError(f"the recipe has no section '{name}'")
        return value

    def dump(self, left_out: Collection[str] = ()) -> dict[str, Any]:
        """Return plain JSON values, for the artifact's key, without ``left_out`` (dotted names)."""
        plain = {}
        for name, value in self._values.items():
            if isinstance(value, BaseModel):
                own = {key.partition(".")[2] for key in left_out if key.startswith(f"{name}.")}
                # Where curves are sent decides no byte.
                value = value.model_dump(mode="json", exclude={"report_to", *own})
            plain[name] = value
        return {"seed": self.seed, **plain}
