"""Out of GPU memory: micro-batches are halved once, and what a step trains on stays the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

from edgetune.distill.losses import CrossEntropy
from edgetune.errors import MachineFault
from edgetune.log import Log
from edgetune.models.adapters import add_adapter
from edgetune.models.load import load_base
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.ops import choose
from edgetune.recipe import DistillSection, TuneSection
from edgetune.train.distillation.trainer import train_student
from edgetune.train.inputs import DistillationData, TrainingData, TrainingRun
from edgetune.train.micro_batches import halve
from edgetune.train.objectives.sft import tune
from tests.train.test_resume import some_rows

SETTINGS: dict[str, Any] = {
    "max_steps": 4, "batch_size": 4, "gradient_accumulation": 2, "learning_rate": 1e-2, "rank": 4,
}  # fmt: skip


def train(kind: str, model: Path, out: Path) -> dict[str, torch.Tensor]:
    """Train four steps of two micro-batches; return what was trained."""
    out.mkdir()
    run = TrainingRun("student", 0, out, Log(out / "log.jsonl", quiet=True))
    base = load_base(model, False, "float32", "cpu")
    if kind == "distill":
        section = DistillSection(train="lora", **SETTINGS)
        base = add_adapter(base, section, seed=0)
        loss = CrossEntropy(choose("sparse_loss", "torch"))
        train_student(base, loss, DistillationData(some_rows(40)), section, run)
    else:
        packing: dict[str, Any] = {"packing": kind == "packed"}
        if kind == "packed":
            packing["pack_length"] = 24
        tuning = TuneSection(method="lora", **packing, **SETTINGS)
        base = add_adapter(base, tuning, seed=0)
        tune(base, load_tokenizer(model), TrainingData(some_rows(80)), tuning, 64, run)
    return {name: p.detach() for name, p in base.named_parameters() if p.requires_grad}


@pytest.fixture
def run_out(monkeypatch: pytest.MonkeyPatch) -> Callable[[set[int]], list[int]]:
    """Have some of the trainer's forward and backward passes, by their number, run out of memory.

    Their gradients are added up all the same, as where memory ends in a backward pass.
    """

    def patch(failing: set[int]) -> list[int]:
        rows: list[int] = []
        original = Trainer.training_step

        def training_step(trainer: Any, model: Any, inputs: Any, count: Any = None) -> Any:
            rows.append(inputs["input_ids"].numel())
            loss = original(trainer, model, inputs, count)
            if len(rows) in failing:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return loss

        monkeypatch.setattr(Trainer, "training_step", training_step)
        return rows

    return patch


@pytest.mark.parametrize("kind", ["rows", "packed", "distill"])
def test_a_step_out_of_memory_is_done_again_in_halves(
    kind: str, tiny_model: Path, tmp_path: Path, run_out: Callable[[set[int]], list[int]]
) -> None:
    whole = train(kind, tiny_model, tmp_path / "whole")
    passes = run_out({4})  # the second of step 2
    halved = train(kind, tiny_model, tmp_path / "halved")
    assert len(passes) == 2 + 2 + 4 + 2 * 4  # step 1, step 2, step 2 in halves, steps 3 and 4
    assert passes[4] + passes[5] <= passes[2] and passes[6] + passes[7] <= passes[3]
    assert max(passes[4:]) < max(passes[:4])
    assert whole.keys() == halved.keys()
    for name, weights in whole.items():
        torch.testing.assert_close(halved[name], weights, atol=1e-5, rtol=1e-4, msg=name)
    said = (tmp_path / "halved" / "log.jsonl").read_text()
    assert said.count("CUDA out of memory in step 2") == 1


def test_a_second_time_is_an_error_with_advice(
    tiny_model: Path, tmp_path: Path, run_out: Callable[[set[int]], list[int]]
) -> None:
    run_out({1, 3})
    with pytest.raises(MachineFault, match="half a micro-batch") as error:
        train("rows", tiny_model, tmp_path / "out")
    assert "gradient_checkpointing" in str(error.value) and "edgetune plan" in str(error.value)


def test_teachers_targets_go_with_their_rows() -> None:
    labels_BT = torch.tensor([[7, -100, 8], [-100, 9, -100], [5, 6, 4]])
    batch = {
        "input_ids": torch.arange(9).reshape(3, 3), "labels": labels_BT,
        "teacher_ids": torch.arange(6)[:, None], "teacher_tail": torch.arange(6.0),
    }  # fmt: skip
    first, second = halve(batch, labels_BT != -100)
    assert first["labels"].tolist() == [[7, -100, 8]]
    assert first["teacher_ids"].flatten().tolist() == first["teacher_tail"].tolist() == [0, 1]
    assert second["input_ids"].tolist() == [[3, 4, 5], [6, 7, 8]]
    assert second["teacher_tail"].tolist() == [2, 3, 4, 5]


def test_packed_rows_are_parted_between_rows() -> None:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    rows = [[5, 6, 7, 8], [20, 21, 22], [40, 41, 42, 43, 44]]

    def pack(*chosen: list[int]) -> dict[str, Any]:
        ids = [token for row in chosen for token in row]
        lengths = [len(row) for row in chosen]
        packed: dict[str, Any] = collate(
            [{"input_ids": ids, "labels": ids, "seq_lengths": lengths}]
        )
        return packed

    halves = halve(pack(*rows), torch.ones(1, 11))
    for half, wanted in zip(halves, (pack(*rows[:2]), pack(rows[2])), strict=True):
        assert half.keys() == wanted.keys()
        for name, values in wanted.items():
            assert torch.equal(torch.as_tensor(half[name]), torch.as_tensor(values)), name


def test_one_row_stays_whole() -> None:
    batch = {"input_ids": torch.ones(1, 4), "labels": torch.ones(1, 4)}
    assert halve(batch, torch.ones(1, 3)) == [batch]
    packed = {**batch, "position_ids": torch.arange(4)[None]}
    assert halve(packed, torch.ones(1, 3)) == [packed]
