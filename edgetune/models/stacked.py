"""On what a foreign adapter was trained: a base, its NF4 values, or another adapter's merge."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from edgetune.artifact import ENTRY, load_artifact
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.lineage import ADAPTER, lineage_of, read_stamp
from edgetune.models.merge import write_merged
from edgetune.models.ref import ModelRef
from edgetune.models.training_base import (
    TrainingBase,
    find_training_base,
    parse_training_base,
    refuse_merge_over_gguf,
)

_NF4_DTYPE = "bfloat16"  # in which most trainings load a base that they put into 4 bits


def rebuild_trained(
    ref: ModelRef, earlier: Sequence[Path], asked: str, dtype: str, scratch: Path, log: Log
) -> ModelRef:
    """Return what an adapter was trained as: over which weights, and whether those were in NF4.

    The weights below a second adapter are those that its artifact names, where they are still
    there. Else they are made again: each earlier adapter merged over what it was trained on.

    Args:
        ref: the first base, and the last adapter.
        earlier: adapters below it, first to last.
        asked: ``merge.trained_on``; counts where nothing says on what an adapter was trained.
        dtype: of merged weights, which a later NF4 training read.
        scratch: folder for them.
        log: says what is taken for granted.

    Raises:
        InputError: several adapters, and it is not known on what one of them was trained; or what
            was asked for is not what an adapter says of itself.
    """
    assert ref.adapter is not None
    adapters = [*earlier, ref.adapter]
    known = [_training_base(adapter, asked, bool(earlier), log) for adapter in adapters]
    recorded = _recorded_base(ref.adapter) if earlier else None
    base = recorded or ref.base
    if recorded is not None:
        log.say(f"the last adapter was trained on {recorded}")
    for number, adapter in enumerate([] if recorded else earlier):
        below = scratch / f"below-{number}"
        shutil.rmtree(below, ignore_errors=True)
        kept = dtype if known[number + 1].nf4 else "float32"  # what the next training read
        write_merged(base, [adapter], below, kept, _nf4_dtype(known[number]))
        base = below
    top = known[-1]
    return replace(ref, base=base, nf4=top.nf4, nf4_dtype=_nf4_dtype(top) or "float32")


def _training_base(adapter: Path, asked: str, stacked: bool, log: Log) -> TrainingBase:
    found = find_training_base(adapter)
    wanted = parse_training_base(asked, "merge.trained_on")
    if found is not None and found.gguf:
        refuse_merge_over_gguf(adapter)
    if found is not None:
        if wanted is not None and wanted.nf4 != found.nf4:
            raise InputError(
                f"merge.trained_on is {asked}, and {found.source} says {found}",
                where=str(adapter),
                hint="leave merge.trained_on out",
            )
        return found
    if wanted is not None:
        return wanted
    if stacked:
        raise InputError(
            "nothing says whether this adapter was trained over NF4 weights (QLoRA) or over the "
            "base as it is, so what a second adapter was trained on is not known",
            where=str(adapter),
            hint="say it: --trained-on nf4 or --trained-on original",
        )
    log.warn(
        f"{adapter}: taken as trained over the base as it is; if it was QLoRA, say --trained-on nf4"
    )
    return TrainingBase(False, None, "nothing")


def _nf4_dtype(base: TrainingBase) -> str | None:
    return (base.dtype or _NF4_DTYPE) if base.nf4 else None


def _recorded_base(adapter: Path) -> Path | None:
    """Return the folder that an adapter's artifact names as its base, if it is still that."""
    for folder in (adapter, adapter.parent):
        if not (folder / ENTRY).is_file():
            continue
        with suppress(InputError, KeyError, TypeError):
            facts = load_artifact(folder).facts
            ref = ModelRef.from_json(facts.get("model") or facts["student"], folder)
            if ref.base.is_dir() and lineage_of(ref.base) == read_stamp([adapter / ADAPTER]):
                return ref.base
    return None
