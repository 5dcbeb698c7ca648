"""What a step of tuning gave: the model after it and before it, on the same validation rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgetune.data.contract import encoder_of
from edgetune.data.dataset.splits import Splits
from edgetune.distill.selection import compare_models
from edgetune.facts import StepGain
from edgetune.log import Log
from edgetune.models.ref import ModelRef
from edgetune.recipe import DataSection

ASKED_ROWS = 256  # whose answers are generated


def measure_gain(
    models: Mapping[str, ModelRef], contract: Path, rows: Splits, data: DataSection,
    computed: tuple[str, str], log: Log,
) -> StepGain:  # fmt: skip
    """Compare the model after a step with the one before it.

    Args:
        models: what the step made (``after``), and what it began with (``before``).
        contract: folder of the step's contract: both are asked by it.
        rows: of which the validation rows are answered and scored.
        data: settings of these rows.
        computed: dtype and device.
        log: gets the difference.
    """
    encoder = encoder_of(contract, data, rows.clock)
    validation = rows.encode("validation", encoder, log.muted(), data.on_bad_row)
    found = compare_models(models, encoder, validation, *computed, asked_rows=ASKED_ROWS)
    log.say(f"this step, on validation rows: {found.text}")
    return StepGain(found.scores, found.figures)
