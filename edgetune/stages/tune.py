"""tune: rows → tokens → loss → adapter. The result is the teacher: base + adapter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgetune.artifact import Artifact
from edgetune.data.contract import freeze_clock
from edgetune.data.dataset.encoding import Encoding
from edgetune.data.dataset.open import open_splits
from edgetune.data.dataset.splits import Splits
from edgetune.facts import TuneFacts
from edgetune.log import Log
from edgetune.models.ref import ModelRef
from edgetune.recipe import Sections
from edgetune.train.gain import measure_gain
from edgetune.train.objectives import LANGUAGE_MODEL, OBJECTIVES
from edgetune.train.tuning import find_base, tune_base


def run(sections: Sections, inputs: dict[str, Artifact], out: Path, log: Log) -> TuneFacts:
    """Tune the base, or what the step before made of it, on the recipe's rows.

    Writes:
        ``adapter/`` (PEFT) or, with ``method: full``, ``model/``; ``contract/`` (tokenizer,
        template, golden prompts); ``metrics.jsonl``.
    """
    # 1. The base and its tokenizer, on the device and in the dtype of this machine.
    base = find_base(sections, out, log, inputs)

    # 2. The rows, as `prepare` made them or made here.
    encoding = Encoding(str(base.folder), sections.tune.end_token, freeze_clock(out))
    objective = OBJECTIVES[sections.tune.objective]
    rows = open_splits(sections, inputs, out, log, encoding, objective.rows)

    # 3. Rows to tokens to adapter, with the contract that every later file must keep.
    facts = tune_base(sections, base, rows, out, log)
    if "gain_rows" not in inputs or objective.gives != LANGUAGE_MODEL:
        return facts

    # 4. What this step gave, on the validation rows of the whole recipe.
    models = {"after": ModelRef.from_json(facts.model, out), "before": base.start}
    gain_rows = Splits.open(inputs["gain_rows"].path)
    computed = (base.dtype, base.device)
    gain = measure_gain(models, out / "contract", gain_rows, sections.data, computed, log)
    return replace(facts, gain=gain)
