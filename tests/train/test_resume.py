"""A resumed training is an unbroken one, bit for bit; a torn checkpoint is never resumed."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from edgetune.data.encoded import Encoded
from edgetune.distill.losses import CrossEntropy
from edgetune.errors import Interrupted
from edgetune.log import Log
from edgetune.models.adapters import add_adapter
from edgetune.models.load import load_base
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.ops import choose
from edgetune.recipe import DistillSection, TuneSection
from edgetune.train import callbacks, loop
from edgetune.train.callbacks import newest_checkpoint
from edgetune.train.distillation.trainer import train_student
from edgetune.train.inputs import DistillationData, TrainingData, TrainingRun
from edgetune.train.loop import Outcome
from edgetune.train.objectives.sft import tune

QUIET = Log(quiet=True)


def some_rows(count: int) -> list[Encoded]:
    rows = []
    for number in range(count):
        length = 6 + number % 7
        ids = [(number * 11 + i * 5) % 300 + 3 for i in range(length)]
        rows.append(Encoded(ids, [i >= 3 for i in range(length)], False))
    return rows


@dataclass(frozen=True)
class Tuned:
    """A tuning over NF4: how it went, its losses, and the adapter's weights."""

    outcome: Outcome
    losses: list[float]
    adapter: dict[str, torch.Tensor]


def run_tune(
    model: Path, out: Path, device: str = "cpu", dtype: str = "float32", **settings: Any
) -> Tuned:
    section = TuneSection(
        **{"rank": 4, "max_steps": 9, "batch_size": 2, "save_every": 3, "eval_every": 4,
           "learning_rate": 1e-2, "packing": False, **settings},
    )  # fmt: skip
    tuned = add_adapter(load_base(model, section.method == "qlora", dtype, device), section, 0)
    out.mkdir(exist_ok=True)
    data = TrainingData(some_rows(40), some_rows(4))
    run = TrainingRun("teacher", 0, out, QUIET)
    outcome = tune(tuned, load_tokenizer(model), data, section, 64, run)
    curve = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    adapter = {
        name: weight.detach().cpu().clone()
        for name, weight in tuned.named_parameters()
        if weight.requires_grad
    }
    assert all(weight.dtype == torch.float32 for weight in adapter.values())
    return Tuned(outcome, [row["loss"] for row in curve if "loss" in row], adapter)


def kill_and_resume(
    monkeypatch: pytest.MonkeyPatch, model: Path, out: Path, *where: str, **settings: Any
) -> Tuned:
    """Return a tuning that was killed after step 5 and went on from its newest checkpoint."""
    original = loop.StopWhenAsked

    class StopAndKill(original):  # type: ignore[misc, valid-type]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 5:
                raise ConnectionAbortedError("killed")

    monkeypatch.setattr(loop, "StopWhenAsked", StopAndKill)
    with pytest.raises(ConnectionAbortedError):
        run_tune(model, out, *where, **settings)
    monkeypatch.setattr(loop, "StopWhenAsked", original)
    return run_tune(model, out, *where, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"dora": True, "lora_plus_ratio": 4.0},
        {"method": "lora", "init": "pissa", "modules_to_save": ["lm_head"]},
        {"neftune_alpha": 5.0, "train_on": "last"},
    ],
    ids=["dora, LoRA+", "PiSSA, head", "NEFTune"],
)
def test_other_adapters_killed_and_resumed_equal_unbroken_ones(
    tiny_model: Path, tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_tune(tiny_model, tmp_path / "whole", **settings).adapter
    resumed = kill_and_resume(monkeypatch, tiny_model, tmp_path / "broken", **settings)
    assert resumed.outcome.resumed_from == 3
    assert all(torch.equal(whole[name], resumed.adapter[name]) for name in whole)


@pytest.mark.parametrize("packing", [False, True])
def test_killed_and_resumed_equals_unbroken(
    tiny_model: Path, tmp_path: Path, packing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"dropout": 0.1, "packing": packing, "pack_length": 32 if packing else None}
    whole = run_tune(tiny_model, tmp_path / "whole", **settings).adapter
    resumed = kill_and_resume(monkeypatch, tiny_model, tmp_path / "broken", **settings)
    assert resumed.outcome.resumed_from == 3
    assert all(torch.equal(whole[name], resumed.adapter[name]) for name in whole)
    assert any(p.abs().max() > 0 for n, p in whole.items() if "lora_B" in n)


def test_torn_checkpoints_are_passed_over(tiny_model: Path, tmp_path: Path) -> None:
    run_tune(tiny_model, tmp_path)
    folder = tmp_path / "scratch" / "teacher"
    assert newest_checkpoint(folder) == folder / "checkpoint-9"
    weights = folder / "checkpoint-9" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert newest_checkpoint(folder) == folder / "checkpoint-6"
    (folder / "checkpoint-6" / callbacks.SEAL).unlink()
    assert newest_checkpoint(folder) is None


def test_stop_saves_and_says_so(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asked(loop.StopWhenAsked):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.asked = state.global_step == 4

    monkeypatch.setattr(loop, "StopWhenAsked", Asked)
    with pytest.raises(Interrupted, match="step 5 of 9"):
        run_tune(tiny_model, tmp_path)
    found = newest_checkpoint(tmp_path / "scratch" / "teacher")
    assert found is not None and found.name == "checkpoint-5"


def test_micro_batches_do_not_change_the_student(tiny_model: Path, tmp_path: Path) -> None:
    """Losses are sums divided once a step: 4 rows at once or 1 row four times is the same."""
    weights = []
    for batch, accumulation in ((4, 1), (1, 4)):
        model = load_base(tiny_model, False, "float32", "cpu")
        section = DistillSection(
            max_steps=3, batch_size=batch, gradient_accumulation=accumulation, learning_rate=1e-3
        )
        out = tmp_path / f"{batch}"
        out.mkdir()
        loss = CrossEntropy(choose("sparse_loss", "torch"))
        run = TrainingRun("baseline", 0, out, QUIET)
        train_student(model, loss, DistillationData(some_rows(12)), section, run)
        weights.append({n: p.detach() for n, p in model.named_parameters()})
    start = load_file(tiny_model / "model.safetensors")
    for name in weights[0]:
        if name in start:
            torch.testing.assert_close(weights[0][name], weights[1][name], atol=2e-5, rtol=1e-3)
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(weights[0][name], start[name])


def test_packed_rows_do_not_see_each_other(tiny_model: Path) -> None:
    """With TRL's packing each row gets the logits it has alone."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    model = load_base(tiny_model, False, "float32", "cpu").eval()
    rows = [[5, 6, 7, 8], [20, 21, 22], [40, 41, 42, 43, 44]]
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    ids = [token for row in rows for token in row]
    batch = collate([{"input_ids": ids, "labels": ids, "seq_lengths": [4, 3, 5]}])
    with torch.no_grad():
        packed = model(
            input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
        ).logits[0]
        alone = torch.cat([model(input_ids=torch.tensor([row])).logits[0] for row in rows])
        leaky = model(input_ids=batch["input_ids"], use_cache=False).logits[0]
    torch.testing.assert_close(packed, alone, atol=1e-4, rtol=1e-4)
    assert (leaky - alone).abs().max() > 1e-2


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path) -> Any:
    yield
    shutil.rmtree(tmp_path, ignore_errors=True)
