"""The rows that a quantization is measured and trained on: none of those that judge it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgetune.data.contract import encoder_of
from edgetune.data.load import load_splits
from edgetune.data.prepare import usable_rows
from edgetune.data.split import choose_rows, leave_out
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.quantize.methods import METHODS
from edgetune.recipe import Sections

JUDGED_ROWS = 64


@dataclass(frozen=True)
class Texts:
    """Rows as token ids.

    Attributes:
        calibration: importance and harm are measured on them; of the train rows.
        training: weights are trained on their grid with them; of the train rows.
        judged: decide whether that helped; validation rows.
    """

    calibration: list[list[int]]
    training: list[list[int]]
    judged: list[list[int]]


def choose_texts(sections: Sections, model: Path, log: Log) -> Texts:
    """Choose by the seed among the train rows whose prompt no row has that judges.

    Test rows judge the files. Validation rows judge whether what decides the codes of a searched
    file helped, where that is not plain rounding. Left-out rows are counted in a warning.

    Raises:
        InputError: no data, or every train row judges too.
    """
    section = sections.quantize
    if sections.data is None:
        raise InputError(
            "the importance matrix needs data",
            where="quantize.imatrix",
            hint="name data, or set quantize.imatrix: false",
        )
    encoder = encoder_of(model, sections.data)
    rows = load_splits(sections.data, sections.seed, log.muted())
    judges = bool(section.target) and METHODS[section.decider].module is not None
    judged = rows.validation[:JUDGED_ROWS] if judges else []
    if judges and METHODS[section.decider].needs_held_out and len(judged) < 2:
        raise InputError(
            f"{len(judged)} validation rows, and whether method {section.decider} helped is an "
            "interval over rows",
            where="data.validation",
            hint="two rows at least, better 64; or quantize.method: gptq",
        )
    free = leave_out(rows.train, [*rows.test, *judged])
    if not free:
        raise InputError(
            f"all {len(rows.train)} train rows are among those that judge the files",
            where="data.test",
            hint="name test and validation rows whose prompts are not trained on",
        )
    if len(free) < len(rows.train):
        log.warn(
            f"{len(rows.train) - len(free)} of {len(rows.train)} train rows have prompts of rows "
            "that judge: not calibrated on"
        )
    seen = section.grid.max_steps * section.grid.batch_size * section.grid.gradient_accumulation
    trains = METHODS[section.decider].trains
    chosen = {
        "calibration": choose_rows(free, section.calibration_rows, sections.seed),
        "training": choose_rows(free, seen, sections.seed) if trains else [],
        "judged": judged,
    }
    bad = sections.data.on_bad_row
    return Texts(
        **{
            name: [
                list(encoder.encode(row).ids)
                for row in usable_rows(encoder, some, log.muted(), name, bad)
            ]
            for name, some in chosen.items()
        }
    )
