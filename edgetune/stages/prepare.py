"""prepare: sources → rows → tokens: the dataset that every later stage reads."""

from __future__ import annotations

from pathlib import Path

from edgetune.artifact import SCRATCH, Artifact
from edgetune.data.contract import freeze_clock
from edgetune.data.dataset.encoding import Encoding
from edgetune.data.dataset.make import make_dataset
from edgetune.data.dataset.settings import Settings
from edgetune.facts import PrepareFacts
from edgetune.log import Log, counted
from edgetune.models.resolve import resolve_model
from edgetune.recipe import DataSource, Sections, list_sources


def run(sections: Sections, inputs: dict[str, Artifact], out: Path, log: Log) -> PrepareFacts:
    """Read, encode and split the recipe's rows.

    Writes:
        ``train/``, ``validation/``, ``test/`` (rows) and ``tokens/`` (ids and masks of each
        split), which ``datasets.load_from_disk`` reads too; ``dropped.jsonl``: each row that was
        left out or changed, and why; ``dataset.json``: what was counted.
    """
    # 1. The encoding: the model's tokenizer and template, with the time that it prints.
    tokens = sections.tokenizer
    folder = resolve_model(tokens.path, tokens.revision)
    encoding = Encoding(str(folder), tokens.end_token, freeze_clock(out))

    # 2. Rows and tokens of each split; synthetic rows are the last source of train.
    data = sections.data
    if "synthesize" in inputs:
        written = DataSource(path=str(inputs["synthesize"].path))
        data = data.model_copy(update={"train": (*list_sources(data.train), written)})
    settings = Settings(data, sections.seed, encoding, objective=tokens.objective)
    splits = make_dataset(settings, out, out / SCRATCH / "shards", log)

    # 3. What is in it.
    facts = splits.facts
    for name, count in facts["rows"].items():
        size = facts["tokens"][name]["tokens"]
        log.say(f"{name}: {counted(count, 'row')}, {counted(size, 'token')}")
    counts = {name: value for name, value in facts.items() if name not in ("tokens", "left_out")}
    return PrepareFacts(counts, facts["tokens"], facts["left_out"])
