"""Rows to calibrate and train on; none shares a prompt with the rows that evaluate the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgetune.artifact import Artifact
from edgetune.data.contract import encoder_of
from edgetune.data.dataset.open import open_splits
from edgetune.data.dataset.select import without_prompts_of
from edgetune.data.encode_rows import usable_rows
from edgetune.data.split import choose_rows
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.quantize.methods import METHODS
from edgetune.recipe import Sections

HELD_OUT_ROWS = 64


@dataclass(frozen=True)
class Texts:
    """Rows as token ids.

    Attributes:
        calibration: importance and sensitivity are measured on them; train rows.
        training: QAT trains on them; train rows.
        held_out: whether a method helped is measured on them; validation rows.
    """

    calibration: list[list[int]]
    training: list[list[int]]
    held_out: list[list[int]]


def choose_texts(sections: Sections, inputs: Mapping[str, Artifact], out: Path, log: Log) -> Texts:
    """Choose by the seed among train rows that share no prompt with evaluation rows.

    Files are evaluated on test rows; whether a method helped, on validation rows. Excluded rows
    are counted in a warning.

    Raises:
        InputError: no data, or every train row shares a prompt with an evaluation row.
    """
    section = sections.quantize
    if not sections.has("data"):
        raise InputError(
            "the importance matrix needs data",
            where="quantize.imatrix",
            hint="name data, or set quantize.imatrix: false",
        )
    encoder = encoder_of(inputs["merge"].model_folder, sections.data)
    rows = open_splits(sections, inputs, out, log.muted())
    evaluates = bool(section.budget) and METHODS[section.method].module is not None
    held_out = rows.validation[: HELD_OUT_ROWS if evaluates else 0]
    if evaluates and METHODS[section.method].needs_held_out and len(held_out) < 2:
        raise InputError(
            f"{len(held_out)} validation rows, and whether method {section.method} helped is an "
            "interval over rows",
            where="data.validation",
            hint="two rows at least, better 64; or quantize.method: gptq",
        )
    free = without_prompts_of(rows.train, [rows.test, held_out])
    if not free:
        raise InputError(
            f"all {len(rows.train)} train rows share a prompt with evaluation rows",
            where="data.test",
            hint="name test and validation rows whose prompts do not occur in train",
        )
    if len(free) < len(rows.train):
        log.warn(
            f"{len(rows.train) - len(free)} of {len(rows.train)} train rows share a prompt with "
            "test or validation rows and were excluded from calibration"
        )
    qat = section.qat
    sequences = qat.max_steps * qat.batch_size * qat.gradient_accumulation
    trains = METHODS[section.method].trains
    chosen = {
        "calibration": choose_rows(free, section.calibration_rows, sections.seed),
        "training": choose_rows(free, sequences, sections.seed) if trains else [],
        "held_out": held_out,
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
