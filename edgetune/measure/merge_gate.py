"""How far merged weights may be from what was trained."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgetune.data.encoded import Encoded
from edgetune.errors import GateFailed
from edgetune.facts import GateResult, MergeCandidate, to_json
from edgetune.measure.quality import compare_runtimes
from edgetune.models.checkpoint import Checkpoint
from edgetune.models.hardware import count_threads, require_room
from edgetune.models.merge import write_merged
from edgetune.models.ref import ModelRef
from edgetune.runtimes import open_exact_merge, open_merged, open_runtime

#: Mean KL in nats that float32 arithmetic in another order explains. Right merges of five families
#: are at 1e-12 to 1e-7, folded over another base than was trained on at 4e-3 to 0.4.
FLOAT32_LIMIT = 1e-5


@dataclass(frozen=True)
class MergedWeights:
    """A folder of merged weights.

    Attributes:
        folder: where they are.
        dtype: they are stored in.
        nf4_dtype: of the NF4 base they were folded over, if they were.
    """

    folder: Path
    dtype: str
    nf4_dtype: str | None


def check_merge(
    trained: ModelRef,
    candidate: MergeCandidate,
    merged: MergedWeights,
    limit: float | None,
    rows: Sequence[Encoded],
    scratch: Path,
) -> GateResult:
    """Return the gate that the chosen merge passes.

    Weights of 16 bits are held to what their rounding explains, which is measured: the same merge
    in float32 against itself rounded. Distances add up, and KL is a distance's square near zero:
    sqrt(limit) = sqrt(FLOAT32_LIMIT) + sqrt(KL of the rounding).

    Args:
        trained: what was trained.
        candidate: the chosen merge as it was measured.
        merged: its weights.
        limit: the user's own, or none.
        rows: that are compared on.
        scratch: folder for the float32 merge; it is removed again.

    Raises:
        GateFailed: the merge is another model than was trained.
    """
    value = candidate.kl_answer_tokens
    if limit is None:
        limit = FLOAT32_LIMIT
        if merged.dtype != "float32" and not value <= limit:
            rounding = _measure_rounding(trained, merged, rows, scratch)
            limit = (math.sqrt(FLOAT32_LIMIT) + math.sqrt(rounding)) ** 2
    ok = value <= limit  # false for NaN too
    gate = GateResult("merge_kl_answer_tokens", limit, value, ok)
    if not ok:
        over = f"over the {candidate.base} base"
        original = trained.nf4 and candidate.base == "original"
        raise GateFailed(
            f"merged {over}, it is KL {value:.2e} from what was trained; the limit is {limit:.2e}",
            where=str(trained.adapter or trained.base),
            hint="it was trained over NF4 weights: merge.base: auto folds it over those"
            if original
            else "use the base the adapter was trained on; if it was QLoRA, --trained-on nf4",
            result={"gate": to_json(gate)},
        )
    return gate


def _measure_rounding(
    trained: ModelRef, merged: MergedWeights, rows: Sequence[Encoded], scratch: Path
) -> float:
    """Return the KL between the merge in float32 and the same in its dtype; 0 for NaN."""
    exact = scratch / "float32"
    adapters = [trained.adapter] if trained.adapter else []
    threads = count_threads()
    whole = open_exact_merge(trained.base, adapters, merged.nf4_dtype, threads)
    if whole is None:
        shutil.rmtree(exact, ignore_errors=True)
        require_room(scratch, 4 * Checkpoint(trained.base).count, "the merge in float32")
        write_merged(trained.base, adapters, exact, "float32", merged.nf4_dtype)
        whole = open_runtime(exact, threads=threads)
    rounded = open_merged(merged.folder, threads)
    try:
        found = float(compare_runtimes(whole, rounded, rows)["kl_answer_tokens"])
    finally:
        whole.close()
        rounded.close()
        shutil.rmtree(exact, ignore_errors=True)
    return found if math.isfinite(found) else 0.0
