"""merge: what was trained → one 16-bit folder, over whichever base keeps closer to it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from edgetune.artifact import Artifact
from edgetune.data.contract import encoder_of, write_contract
from edgetune.data.dataset.open import open_splits
from edgetune.data.encoded import Encoded
from edgetune.errors import InputError
from edgetune.facts import MergeCandidate, MergeFacts
from edgetune.log import Log
from edgetune.measure.merge_gate import MergedWeights, check_merge
from edgetune.measure.quality import compare_runtimes
from edgetune.models.checkpoint import Checkpoint
from edgetune.models.hardware import count_threads, require_room
from edgetune.models.merge import name_stop_ids, write_merged
from edgetune.models.ref import ModelRef
from edgetune.models.stacked import rebuild_trained
from edgetune.models.training_base import refuse_merge_over_gguf
from edgetune.models.vocabulary import check_vocabulary
from edgetune.recipe import MergeSection, Sections
from edgetune.runtimes.gpu import choose_float32_device, open_float32


def run(sections: Sections, inputs: dict[str, Artifact], out: Path, log: Log) -> MergeFacts:
    """Merge the adapter of the student (or of the teacher, if there is no student).

    An adapter over NF4 is merged into the original and into the dequantized base; both are scored
    by KL against base + adapter on validation rows and the better one is kept, if it is within
    what rounding explains (:mod:`edgetune.measure.merge_gate`).

    Writes:
        ``model/``: weights, configuration, tokenizer, contract.
    """
    section, data = sections.merge, sections.data

    # 1. What was trained, and the rows it is judged on.
    parent = inputs.get("distill") or inputs["tune"]
    scratch = out / "scratch"
    earlier = [Path(folder) for folder in parent.facts.get("earlier", [])]
    trained = _find_trained(section, parent, earlier, out, log)
    encoder = encoder_of(parent.contract_folder, data)
    rows = open_splits(sections, inputs, out, log.muted())
    some = rows.validation[: section.measure_rows]
    judged = rows.encode("validation", encoder, log, data.on_bad_row, some).encoded

    # 2. One candidate a base.
    folders, folded = _write_candidates(section, trained, scratch)

    # 3. How far each is from what was trained.
    device = choose_float32_device(sections.device, trained.base, 2, log)
    candidates = _measure(trained, folders, judged, device)
    for candidate in candidates:
        log.say(
            f"over the {candidate.base} base: KL {candidate.kl_answer_tokens:.2e} to what "
            f"was trained, same top token at {candidate.top1_answer_tokens:.2%}"
        )

    # 4. The closer one ships, if it is what was trained, with the contract beside it.
    best = min(candidates, key=_distance)
    nf4_dtype = trained.nf4_dtype if best.base == "dequantized" else None
    for base, folder in folders.items():
        if base != best.base:
            shutil.rmtree(folder)
    merged = MergedWeights(folders[best.base], section.dtype, nf4_dtype)
    gate = check_merge(trained, best, merged, section.max_kl, judged, scratch)
    model = out / "model"
    shutil.rmtree(model, ignore_errors=True)
    folders[best.base].rename(model)
    contract = write_contract(encoder, rows.quotable, model)
    name_stop_ids(model, contract["stop_ids"])
    return MergeFacts(
        candidates=candidates,
        gates=[gate],
        trained_on=f"nf4:{trained.nf4_dtype}" if trained.nf4 else "original",
        chosen=best.base,
        folded=len(folded),
        dtype=section.dtype,
        source=parent.stage,
        adapters=len(earlier) + bool(trained.adapter),
    )


def _find_trained(
    section: MergeSection, parent: Artifact, earlier: list[Path], out: Path, log: Log
) -> ModelRef:
    """Return the trained model: as the artifact says, or rebuilt for a foreign adapter.

    Raises:
        InputError: ``merge.trained_on`` for an artifact that says it itself; a disk too small.
    """
    trained = ModelRef.from_json(
        parent.facts["student" if parent.stage == "distill" else "model"], parent.path
    )
    if trained.gguf is not None and trained.adapter is not None:
        refuse_merge_over_gguf(trained.adapter)
    check_vocabulary(trained.base)
    checkpoint = Checkpoint(trained.base)
    checkpoint.say_beside(log)
    # Two candidates, and what adapters before the last are merged into.
    written = checkpoint.count * getattr(torch, section.dtype).itemsize
    both = section.base == "auto" and (trained.nf4 or bool(parent.facts.get("foreign")))
    copies = (2 if earlier else 0) + (2 if both else 1)
    require_room(out, copies * written, "merging over two bases" if copies > 1 else "merging")
    if parent.facts.get("foreign"):
        return rebuild_trained(
            trained, earlier, section.trained_on, section.dtype, out / "scratch", log
        )
    if section.trained_on != "auto":
        raise InputError(
            f"merge.trained_on is {section.trained_on}, and the artifact says it itself",
            where=str(parent.path),
            hint="leave merge.trained_on out",
        )
    return trained


def _write_candidates(
    section: MergeSection, trained: ModelRef, scratch: Path
) -> tuple[dict[str, Path], list[str]]:
    """Write one merged folder per base; return them by base, and the names of merged tensors."""
    bases = ["original"]
    if trained.nf4 and section.base != "original":
        bases = ["dequantized"] if section.base == "dequantized" else ["original", "dequantized"]
    folders = {base: scratch / base for base in bases}
    adapters = [trained.adapter] if trained.adapter else []
    merged: list[str] = []
    for base, folder in folders.items():
        shutil.rmtree(folder, ignore_errors=True)
        nf4_dtype = trained.nf4_dtype if base == "dequantized" else None
        merged = write_merged(trained.base, adapters, folder, section.dtype, nf4_dtype)
    return folders, merged


def _distance(candidate: MergeCandidate) -> float:
    """Return a candidate's KL; weights that overflow are infinitely far."""
    value = candidate.kl_answer_tokens
    return value if value == value else math.inf


def _measure(
    trained: ModelRef, folders: dict[str, Path], rows: Sequence[Encoded], device: str
) -> list[MergeCandidate]:
    """Return KL and top-1 agreement of each folder to the trained model, at trained positions."""
    reference = open_float32(trained, count_threads(), device)
    found = []
    try:
        for base, folder in folders.items():
            candidate = open_float32(ModelRef(folder), count_threads(), device)
            try:
                found.append(MergeCandidate(base, **compare_runtimes(reference, candidate, rows)))
            finally:
                candidate.close()
    finally:
        reference.close()
    return found
