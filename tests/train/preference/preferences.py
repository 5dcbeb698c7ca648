"""Preferences that a tiny model can learn: one room's light is liked, the others are not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgetune.data.build_encoder import make_encoder
from edgetune.data.dataset.make import make_dataset
from edgetune.data.dataset.settings import Settings
from edgetune.data.dataset.splits import Splits
from edgetune.log import Log
from edgetune.models.adapters import add_adapter
from edgetune.models.load import load_base
from edgetune.models.ref import ModelRef
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import DataSection, TuneSection
from edgetune.train.inputs import TrainingRun
from edgetune.train.objectives import OBJECTIVES
from edgetune.train.tuning_step import Tuning

QUIET = Log(quiet=True)
ROOMS = ("kitchen", "bedroom", "garage", "hall")


def write_pair_rows(path: Path, count: int = 48) -> Path:
    """Write pairs whose chosen answer names the room that was asked for."""
    rows = [
        {
            "prompt": f"light {ROOMS[n % 4]} {n}",
            "chosen": f"light the {ROOMS[n % 4]} " * (1 + n % 3),
            "rejected": f"no {ROOMS[(n + 1 + n % 2) % 4]} {n}",
        }
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_thumb_rows(path: Path, count: int = 48) -> Path:
    """Write the same answers with a thumb, one of a pair each."""
    rows = [
        {"prompt": f"light {ROOMS[n % 4]} {n}", "label": n % 2 == 0,
         "completion": f"light the {ROOMS[n % 4]} " * (1 + n % 3) if n % 2 == 0 else f"no {n}"}
        for n in range(count)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@dataclass(frozen=True)
class Trial:
    """A model with a fresh adapter, rows and a folder, ready for any objective."""

    model: Path
    rows: Path
    objective: str
    nf4: bool = True

    validation: Path | None = None

    def tuning(self, out: Path, seed: int = 0, **settings: Any) -> Tuning:
        """Return the step, over new weights."""
        out.mkdir(parents=True, exist_ok=True)
        section = TuneSection(**{
            "rank": 4, "max_steps": 20, "batch_size": 4, "eval_every": 10, "save_every": 4,
            "learning_rate": 5e-3, "warmup_ratio": 0.0, **settings,
        })  # fmt: skip
        judged = str(self.validation or self.rows)
        data = DataSection(train=str(self.rows), validation=judged, max_length=128)
        tokenizer = load_tokenizer(self.model)
        model = add_adapter(load_base(self.model, self.nf4, "float32", "cpu"), section, seed=seed)
        return Tuning(
            model, tokenizer, make_encoder(tokenizer, data, None),
            self.splits(data, out / "rows"), section, data,
            TrainingRun(self.objective, seed, out, QUIET),
            ModelRef(self.model, None, self.nf4),
        )  # fmt: skip

    def splits(self, data: DataSection, folder: Path) -> Splits:
        """Return the rows, as `prepare` reads them for the objective."""
        settings = Settings(data, 0, objective=OBJECTIVES[self.objective].rows)
        return make_dataset(settings, folder / "dataset", folder / "scratch", QUIET)


def adapter_of(tuning: Tuning) -> dict[str, torch.Tensor]:
    """Return a copy of the trained weights, which are all float32."""
    found = {
        name: p.detach().clone() for name, p in tuning.model.named_parameters() if p.requires_grad
    }
    assert all(weight.dtype == torch.float32 for weight in found.values())
    return found


def losses_of(out: Path) -> list[float]:
    """Return the train losses that a training wrote."""
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [row["loss"] for row in map(json.loads, lines) if "loss" in row]
