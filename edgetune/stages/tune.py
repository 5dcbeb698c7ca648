"""tune: rows → tokens → loss → adapter. The result is the teacher: base + adapter."""

from __future__ import annotations

from pathlib import Path

from edgetune.artifact import Artifact
from edgetune.data.contract import freeze_clock
from edgetune.data.dataset.encoding import Encoding
from edgetune.data.dataset.open import open_splits
from edgetune.facts import TuneFacts
from edgetune.log import Log
from edgetune.recipe import Sections
from edgetune.train.tuning import find_base, tune_base


def run(sections: Sections, inputs: dict[str, Artifact], out: Path, log: Log) -> TuneFacts:
    """Tune the base on the recipe's rows.

    Writes:
        ``adapter/`` (PEFT) or, with ``method: full``, ``model/``; ``contract/`` (tokenizer,
        template, golden prompts); ``metrics.jsonl``.
    """
    # 1. The base and its tokenizer, on the device and in the dtype of this machine.
    base = find_base(sections, out, log)

    # 2. The rows, as `prepare` made them or made here.
    encoding = Encoding(str(base.folder), sections.tune.end_token, freeze_clock(out))
    rows = open_splits(sections, inputs, out, log, encoding)

    # 3. Rows to tokens to adapter, with the contract that every later file must keep.
    return tune_base(sections, base, rows, out, log)
