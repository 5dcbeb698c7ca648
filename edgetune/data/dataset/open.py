"""The dataset that a stage reads: what `prepare` made, or made here for a stage that runs alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgetune.artifact import SCRATCH, Artifact
from edgetune.data.dataset.encoding import Encoding
from edgetune.data.dataset.make import make_dataset
from edgetune.data.dataset.settings import Settings
from edgetune.data.dataset.splits import Splits
from edgetune.log import Log
from edgetune.recipe import Sections


def open_splits(
    sections: Sections, inputs: Mapping[str, Artifact], out: Path, log: Log,
    encoding: Encoding | None = None, objective: str = "sft",
) -> Splits:  # fmt: skip
    """Return the rows of a recipe.

    Args:
        sections: with ``data``.
        inputs: of the stage; ``prepare`` among them has the rows already.
        out: the stage's folder, in whose scratch they are prepared where it has not.
        log: what is found is told there.
        encoding: what rows are encoded with then; ``None`` leaves tokens out.
        objective: what rows are read for then.
    """
    if "prepare" in inputs:
        return Splits.open(inputs["prepare"].path)
    folder = out / SCRATCH / "prepare"
    settings = Settings(sections.data, sections.seed, encoding, objective=objective)
    return make_dataset(settings, folder, folder / "shards", log)
