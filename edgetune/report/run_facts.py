"""The facts of a run's stages, as the report reads them; those of kept runs too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgetune.artifact import Artifact
from edgetune.facts import (
    DistillFacts,
    ExportFacts,
    MergeFacts,
    PrepareFacts,
    QuantizeFacts,
    TuneFacts,
    from_json,
)
from edgetune.facts.convert import Facts
from edgetune.measure.definitions import RENAMED, RENAMED_GATES


@dataclass(frozen=True)
class RunFacts:
    """What each stage of a run reported; ``None`` where it did not run.

    ``more_rows`` are those of the tuning's steps that have rows of their own.
    """

    prepare: PrepareFacts | None
    more_rows: dict[str, PrepareFacts]
    tune: TuneFacts | None
    distill: DistillFacts | None
    merge: MergeFacts | None
    quantize: QuantizeFacts | None
    export: ExportFacts | None


def read_facts(artifacts: Mapping[str, Artifact]) -> RunFacts:
    """Return the facts of artifacts, by stage.

    Raises:
        InputError: they are not of a version that can be read.
    """
    return RunFacts(
        prepare=_read(PrepareFacts, artifacts.get("prepare")),
        more_rows={
            name.removeprefix("prepare-"): from_json(PrepareFacts, artifact.facts)
            for name, artifact in artifacts.items()
            if name.startswith("prepare-")
        },
        tune=_read(TuneFacts, artifacts.get("tune")),
        distill=_read(DistillFacts, artifacts.get("distill")),
        merge=_read_merge(artifacts.get("merge")),
        quantize=_read(QuantizeFacts, artifacts.get("quantize")),
        export=_read(ExportFacts, artifacts.get("export")),
    )


def _read(kind: type[Facts], artifact: Artifact | None) -> Facts | None:
    return None if artifact is None else from_json(kind, artifact.facts)


def _read_merge(artifact: Artifact | None) -> MergeFacts | None:
    """Return the merge's facts with today's metric names; a kept run may have former ones."""
    if artifact is None:
        return None
    facts = artifact.facts
    candidates = [
        {RENAMED.get(key, key): value for key, value in one.items()}
        for one in facts.get("candidates", [])
    ]
    gates = [
        {**one, "name": RENAMED_GATES.get(one["name"], one["name"])}
        for one in facts.get("gates", [])
    ]
    return from_json(MergeFacts, {**facts, "candidates": candidates, "gates": gates})
