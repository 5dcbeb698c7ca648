"""control: the same tuning without the synthetic rows, and the difference they make."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgetune.artifact import Artifact
from edgetune.data.contract import encoder_of
from edgetune.data.dataset.splits import Splits
from edgetune.distill.selection import compare_models
from edgetune.errors import InputError
from edgetune.facts import ControlFacts, TuneFacts, from_json
from edgetune.log import Log
from edgetune.models.ref import ModelRef
from edgetune.recipe import Sections
from edgetune.train.tuning import Control, find_base, tune_base

ROWS = 256  # validation rows that both answer


def run(sections: Sections, inputs: dict[str, Artifact], out: Path, log: Log) -> ControlFacts:
    """Tune the base without the synthetic rows, for the steps of the tuning with them.

    Writes:
        what `tune` writes.
    """
    tuned = from_json(TuneFacts, inputs["tune"].facts)
    rows = Splits.open(inputs["prepare"].path)

    # 1. The train rows that no teacher wrote.
    written = f"{inputs['synthesize'].path}/"
    own = np.array([not row.where.startswith(written) for row in rows.train], bool)
    if own.all():
        raise InputError(
            "no synthetic row is in train, so there is nothing to compare",
            where="synthesize.compare",
        )
    train = rows.train.select(own)
    log.say(f"the same tuning on {own.sum():,} rows, without {(~own).sum():,} synthetic ones")

    # 2. The same base, steps and settings.
    base = find_base(sections, out, log)
    control = tune_base(sections, base, rows, out, log, Control(train, tuned.steps))

    # 3. Both on the same validation rows.
    encoder = encoder_of(inputs["tune"].contract_folder, sections.data)
    validation = rows.encode("validation", encoder, log.muted(), sections.data.on_bad_row)
    models = {
        "with": ModelRef.from_json(tuned.model, inputs["tune"].path),
        "without": ModelRef.from_json(control.model, out),
    }
    found = compare_models(models, encoder, validation, base.dtype, base.device, ROWS)
    log.say(f"with the synthetic rows minus without, on validation rows: {found.text}")
    return ControlFacts(
        tuning=control,
        rows=int(own.sum()),
        synthetic_rows=int((~own).sum()),
        scores=found.scores,
        figures=found.figures,
    )
