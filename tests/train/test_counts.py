"""A step's gradient is that of the mean over the tokens that have a loss, however it is batched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from transformers import TrainerCallback

from edgetune.data.build_encoder import make_encoder
from edgetune.data.encoded import Encoded
from edgetune.data.rows import Message, Row
from edgetune.distill.losses import CrossEntropy
from edgetune.log import Log, Progress
from edgetune.models.load import load_base
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.ops import choose
from edgetune.recipe import DataSection, DistillSection, TuneSection
from edgetune.train import loop
from edgetune.train.distillation.on_policy import SampledTargets
from edgetune.train.distillation.trainer import train_student
from edgetune.train.inputs import DistillationData, TrainingData, TrainingRun
from edgetune.train.objectives.sft import as_dataset, tune

QUIET = Log(quiet=True)


def row(length: int, trained: Callable[[int], bool], start: int = 5) -> Encoded:
    ids = [(start + 7 * number) % 300 for number in range(length)]
    return Encoded(ids, [trained(number) for number in range(length)], False)


#: Four rows each: one optimizer step.
SETS = {
    "answers": [row(6 + n, lambda i: i >= 3, n) for n in range(4)],
    "texts": [row(4 + n, lambda i: i > 0, n) for n in range(4)],
    "two tokens": [row(2, lambda i: i > 0, n) for n in range(4)],
    "first token": [row(5 + n, lambda i: True, n) for n in range(4)],
    "uneven": [row(3, lambda i: i == 2), row(9, lambda i: i > 0), row(2, lambda i: True),
               row(7, lambda i: i in (1, 6))],
}  # fmt: skip


def mean_loss(model: Any, rows: list[Encoded]) -> torch.Tensor:
    """The definition: row by row, without a batch, a pad or a trainer."""
    total, count = torch.zeros(()), 0
    for one in rows:
        ids = torch.tensor(one.ids)
        each = F.cross_entropy(model(input_ids=ids[None]).logits[0, :-1], ids[1:], reduction="none")
        trained = torch.tensor(one.trained[1:], dtype=torch.bool)
        total, count = total + each[trained].sum(), count + int(trained.sum())
    return total / count


class TakeGradient(TrainerCallback):  # type: ignore[misc]
    """Keeps the gradient that the optimizer is about to be given."""

    def __init__(self) -> None:
        self.found: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, *_: Any, model: Any = None, **__: Any) -> None:
        self.found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def check(
    model: Any, rows: list[Encoded], run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = mean_loss(model.eval(), rows)
    gradients = dict(
        zip(
            [name for name, _ in model.named_parameters()],
            torch.autograd.grad(wanted, list(model.parameters())),
            strict=True,
        )
    )
    taken = TakeGradient()
    original = loop.SealCheckpoints

    class Both(original):  # type: ignore[misc, valid-type]
        def on_pre_optimizer_step(self, *arguments: Any, **named: Any) -> None:
            taken.on_pre_optimizer_step(*arguments, **named)

    monkeypatch.setattr(loop, "SealCheckpoints", Both)
    done = run()
    assert done.train_loss == pytest.approx(wanted.item(), abs=2e-4)  # it is logged in 4 places
    assert taken.found.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(taken.found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


SPLITS = [(4, 1), (2, 2), (1, 4)]
SETTINGS: dict[str, Any] = {
    "max_steps": 1, "max_grad_norm": 1e6, "learning_rate": 1e-3, "warmup_ratio": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("split", SPLITS)
def test_tuning(
    tiny_model: Path, tmp_path: Path, name: str, split: tuple[int, int], packing: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if packing and split != (1, 4):
        pytest.skip("packed rows have no split of their own")
    model = load_base(tiny_model, False, "float32", "cpu")
    section = TuneSection(
        method="full", batch_size=4 if packing else split[0],
        gradient_accumulation=1 if packing else split[1],
        packing=packing, pack_length=11 if packing else None, **SETTINGS,
    )  # fmt: skip
    rows = SETS[name]
    check(
        model, rows,
        lambda: tune(
            model, load_tokenizer(tiny_model), TrainingData(rows), section, 64,
            TrainingRun("teacher", 0, tmp_path, QUIET),
        ),
        monkeypatch,
    )  # fmt: skip


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("split", SPLITS)
def test_distilling(
    tiny_model: Path, tmp_path: Path, name: str, split: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model = load_base(tiny_model, False, "float32", "cpu")
    section = DistillSection(
        train="full", batch_size=split[0], gradient_accumulation=split[1], **SETTINGS
    )
    rows = SETS[name]
    check(
        model, rows,
        lambda: train_student(
            model, CrossEntropy(choose("sparse_loss", "torch")), DistillationData(rows), section,
            TrainingRun("student", 0, tmp_path, QUIET),
        ),
        monkeypatch,
    )  # fmt: skip


def test_on_policy(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sampled depends on the seed and the whole step's prompts, so neither does the split
    change the answers, nor may it change the gradient."""
    encoder = make_encoder(load_tokenizer(tiny_model), DataSection(train="-"), None)
    rows = [
        Row((Message("user", text), Message("assistant", "-")), None, text)
        for text in ("a", "bb cc", "d", "play it again")
    ]
    teacher = load_base(tiny_model, False, "float32", "cpu").eval()
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.mul_(1.5)
    found = []
    original = loop.SealCheckpoints
    for split in SPLITS:
        taken = TakeGradient()

        class Both(original):  # type: ignore[misc, valid-type]
            def on_pre_optimizer_step(self, *arguments: Any, **named: Any) -> None:
                taken.on_pre_optimizer_step(*arguments, **named)  # noqa: B023

        monkeypatch.setattr(loop, "SealCheckpoints", Both)
        section = DistillSection(
            method="on_policy", train="full", divergence="jsd", max_new_tokens=6,
            batch_size=split[0], gradient_accumulation=split[1], **SETTINGS,
        )  # fmt: skip
        student = load_base(tiny_model, False, "float32", "cpu")
        out = tmp_path / str(split[0])
        out.mkdir()
        targets = SampledTargets(teacher, encoder, rows)
        targets.train(student, [], section, TrainingRun("student", 0, out, QUIET))
        found.append(taken.found)
    assert any(gradient.abs().max() > 1e-4 for gradient in found[0].values())
    for other in found[1:]:
        for name, gradient in found[0].items():
            torch.testing.assert_close(other[name], gradient, rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
@pytest.mark.parametrize("kind", ["tune", "packed", "distill"])
def test_validation_loss_is_by_token(
    tiny_model: Path, tmp_path: Path, kind: str, batch_size: int
) -> None:
    rows = [*SETS["uneven"], *SETS["texts"], row(40, lambda i: i > 0)]
    model = load_base(tiny_model, False, "float32", "cpu")
    with torch.no_grad():
        wanted = float(mean_loss(model.eval(), rows))
    settings = {**SETTINGS, "learning_rate": 1e-12, "batch_size": batch_size, "eval_every": 1}
    run = TrainingRun("student", 0, tmp_path, QUIET)
    if kind == "distill":
        loss = CrossEntropy(choose("sparse_loss", "torch"))
        distilling = DistillSection(train="full", **settings)
        found = train_student(model, loss, DistillationData(rows, rows), distilling, run)
    else:
        section = TuneSection(method="full", packing=kind == "packed", **settings)
        data = TrainingData(rows, rows)
        found = tune(model, load_tokenizer(tiny_model), data, section, 64, run)
    assert found.validation_loss == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    "eval_rows, chosen", [(2, (0, 5)), (3, (0, 3, 6)), (10, range(10)), ("all", range(10))]
)
def test_validation_rows_are_taken_evenly(
    eval_rows: int | Literal["all"], chosen: Sequence[int]
) -> None:
    rows = [row(3 + number, lambda i: True) for number in range(10)]
    taken = TrainingData([], rows).take_validation(eval_rows)
    assert taken == [rows[number] for number in chosen]


@pytest.mark.parametrize("kind", ["tune", "distill"])
def test_validation_is_of_eval_rows_and_moves_the_bar(
    tiny_model: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row(4 + number, lambda i: i > 1, number) for number in range(10)]
    shown: list[str] = []
    original = Progress.update

    def update(bar: Progress, steps: int = 1, **fields: str) -> None:
        shown.append(fields.get("validation", ""))
        original(bar, steps, **fields)

    monkeypatch.setattr(Progress, "update", update)
    model = load_base(tiny_model, False, "float32", "cpu")
    with torch.no_grad():
        wanted = float(mean_loss(model.eval(), rows[::3][:3]))
    settings = {**SETTINGS, "learning_rate": 1e-12, "eval_every": 1, "eval_rows": 3}
    run = TrainingRun("student", 0, tmp_path, QUIET)
    if kind == "distill":
        loss = CrossEntropy(choose("sparse_loss", "torch"))
        distilling = DistillSection(train="full", batch_size=2, **settings)
        found = train_student(model, loss, DistillationData(rows, rows), distilling, run)
    else:
        section = TuneSection(method="full", packing=False, batch_size=2, **settings)
        tokenizer = load_tokenizer(tiny_model)
        found = tune(model, tokenizer, TrainingData(rows, rows), section, 64, run)
    assert found.validation_loss == pytest.approx(wanted, rel=1e-5)
    assert [text for text in shown if "/" in text] == ["1/2", "2/2"]


def test_tables_of_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetune.train.objectives.sft.TABLE_ROWS", 3)
    rows = [one for several in SETS.values() for one in several]
    table = as_dataset(rows)
    assert table["input_ids"][:] == [list(one.ids) for one in rows]
    assert table["labels"][:] == [
        [-100, *(i if t else -100 for i, t in zip(one.ids[1:], one.trained[1:], strict=True))]
        for one in rows
    ]
    assert len(as_dataset([])) == 0
