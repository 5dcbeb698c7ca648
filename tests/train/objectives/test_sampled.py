"""grpo and rloo on a tiny model: they resume, learn, equal TRL's loss, and stop at collapse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from edgetune.artifact import Artifact
from edgetune.errors import InputError, Interrupted
from edgetune.log import Log
from edgetune.models.adapters import add_adapter
from edgetune.models.load import load_base
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.pipeline import run_alone
from edgetune.recipe import TuneSection
from edgetune.recipe.load import check_tree
from edgetune.recipe.sampling import GrpoSection
from edgetune.train.objectives.collapse import ROWS, StopAtCollapse
from edgetune.train.objectives.start_model import StartModel

QUIET = Log(quiet=True)


def tune(
    model: Path,
    rows: Path,
    out: Path,
    objective: str = "grpo",
    settings: Any = None,
    **section: Any,
) -> Artifact:
    settings = {"rewards": ["length:6"], "max_new_tokens": 6, "generations": 4, **(settings or {})}
    tree = {
        "model": {"path": str(model), "device": "cpu", "compute_dtype": "float32"},
        "data": {"train": str(rows), "max_length": 48},
        "tune": {
            "objective": objective, "method": "lora", "rank": 4, "batch_size": 8, "max_steps": 4,
            "save_every": 2, "learning_rate": 1e-2, objective: settings, **section,
        },
    }  # fmt: skip
    return run_alone("tune", check_tree(tree, "test"), {}, out, QUIET)


def weights(artifact: Artifact) -> dict[str, torch.Tensor]:
    return load_file(artifact.path / "adapter" / "adapter_model.safetensors")


@pytest.mark.parametrize("objective", ["grpo", "rloo"])
def test_an_interrupted_training_ends_as_an_unbroken_one(
    objective: str, tiny_model: Path, device_rows: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    settings = {"beta": 0.1}
    whole = tune(tiny_model, device_rows, tmp_path / "whole", objective, settings)
    from edgetune.train.callbacks import StopWhenAsked

    stop_at = {"step": 2}
    step_end = StopWhenAsked.on_step_end

    def stop(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.asked = state.global_step == stop_at["step"]
        step_end(self, args, state, control, **more)

    monkeypatch.setattr(StopWhenAsked, "on_step_end", stop)
    with pytest.raises(Interrupted):
        tune(tiny_model, device_rows, tmp_path / "broken", objective, settings)
    stop_at["step"] = -1
    resumed = tune(tiny_model, device_rows, tmp_path / "broken", objective, settings)
    assert resumed.facts["resumed_from"] == 2
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], tensor, rtol=0, atol=0)
    assert resumed.facts["figures"] == whole.facts["figures"]


def test_the_reward_grows(tiny_model: Path, device_rows: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def vowels(completions, **_):\n"
        "    return [sum(c in 'aeiou' for c in one) / 6 for one in completions]\n"
    )
    settings = {"rewards": [f"{file}:vowels"]}
    made = tune(
        tiny_model, device_rows, tmp_path / "t", settings=settings, max_steps=24, batch_size=16
    )
    figures = made.facts["figures"]
    assert figures["reward_gain"] > 0
    curve = [json.loads(line) for line in (made.path / "metrics.jsonl").read_text().splitlines()]
    rewards = [row["reward"] for row in curve if "reward" in row]
    assert rewards[-1] > 1.5 * rewards[0]
    assert figures["reward_before"] < figures["best_of_4_before"]
    assert made.facts["trainer"] == "trl.GRPOTrainer"


@pytest.mark.parametrize("objective", ["grpo", "rloo"])
def test_loss_and_gradient_are_trls(
    objective: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On equal answers and rewards, with a reference: TRL's is a copy of the adapter."""
    import trl
    from datasets import Dataset

    from edgetune.train.objectives.grpo import GroupTrainer
    from edgetune.train.objectives.rloo import LeaveOneOutTrainer
    from edgetune.train.precision import keep_trainable_float32

    own: Any = {"grpo": GroupTrainer, "rloo": LeaveOneOutTrainer}[objective]
    theirs = getattr(trl, f"{objective.upper()}Trainer")
    config = getattr(trl, f"{objective.upper()}Config")
    prompts = [[5, 6, 7], [8, 9], [10, 11, 12, 13], [14]]

    def tokenize(trainer: Any, texts: list[str]) -> Any:
        return [prompts[int(text)] for text in texts], None, {}

    def generate(trainer: Any, ids: list[list[int]], *_: Any, **__: Any) -> Any:
        step = trainer.state.global_step
        answers = [[20 + (3 * n + step) % 40, 21 + n % 7, 22] for n, _ in enumerate(ids)]
        found = [answer[: 1 + n % 3] for n, answer in enumerate(answers)]
        return found if objective == "rloo" else (found, None)

    def lengths(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [len(ids) + ids[0] / 40 for ids in completion_ids]

    def score(trainer: Any, inputs: Any, texts: Any, completions: Any, ids: Any) -> torch.Tensor:
        return torch.tensor(lengths(ids))[:, None]

    def train(kind: Any, **changed: Any) -> list[list[float]]:
        monkeypatch.setattr(kind, "_tokenize_prompts", tokenize)
        monkeypatch.setattr(kind, "_generate_single_turn", generate)
        section = TuneSection(method="lora", rank=4)
        model = add_adapter(load_base(tiny_model, False, "float32", "cpu"), section, seed=0)
        keep_trainable_float32(model)
        arguments = {
            "output_dir": str(tmp_path / kind.__name__), "max_steps": 20, "report_to": [],
            "per_device_train_batch_size": 8, "num_generations": 4, "use_cpu": True, "bf16": False,
            "learning_rate": 1e-2, "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True,
            "gradient_checkpointing": False, "beta": 0.1, **changed,
        }  # fmt: skip
        trainer = kind(
            model=model,
            reward_funcs=[lengths],
            args=config(**arguments),
            train_dataset=Dataset.from_dict({"prompt": ["0", "1", "2", "3"]}),
            processing_class=load_tokenizer(tiny_model),
        )
        if changed:
            trainer.beta, trainer.ref_model = 0.1, StartModel(trainer.model)
        trainer.train()
        rows = [row for row in trainer.state.log_history if "loss" in row]
        return [[row[name] for row in rows] for name in ("loss", "grad_norm", "kl")]

    monkeypatch.setattr(own, "_calculate_rewards", score)
    ours, trls = train(own, beta=0.0), train(theirs)
    loss, gradient, kl = trls
    assert len(loss) == 20 and min(gradient) > 0.1 and max(kl) > 0.1
    assert ours[0] == pytest.approx(loss, abs=1e-5)
    assert ours[1] == pytest.approx(
        gradient, rel=1e-4
    )  # RLOO's loss is 0 where its gradient is not
    assert ours[2] == pytest.approx(kl, abs=1e-4)


def test_a_constant_reward_is_refused(tiny_model: Path, device_rows: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the reward is 0 for each of the first 64 answers"):
        tune(tiny_model, device_rows, tmp_path / "t", settings={"rewards": ["regex:ABC"]},
             max_steps=10)  # fmt: skip


def test_groups_that_do_not_fill_a_step_are_refused(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="3 answers to a prompt do not fill a step of 8"):
        tune(tiny_model, device_rows, tmp_path / "t", settings={"generations": 3})


def test_the_start_model_computes_what_the_model_was() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 4)
    x = torch.randn(2, 4)
    before, start = model(x).detach(), StartModel(model)
    with torch.no_grad():
        model.weight.add_(1.0)
    now = model(x)

    class Takes(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)  # type: ignore[no-any-return]

    torch.testing.assert_close(start(input=x), before)
    torch.testing.assert_close(model(x), now)
    assert Takes()(x).requires_grad and not start(input=x).requires_grad


@pytest.mark.parametrize(
    ("settings", "row", "reason"),
    [
        ({}, {"entropy": 0.001}, "collapsed"),
        ({}, {"entropy": 0.5}, ""),
        ({"max_clipped": 0.9}, {"completions/clipped_ratio": 1.0}, "have no end"),
        ({"max_kl": 1.0, "beta": 0.1}, {"kl": 2.0}, "KL 2.000"),
    ],
)
def test_training_stops_at_collapse(
    settings: dict[str, Any], row: dict[str, float], reason: str, tmp_path: Path
) -> None:
    stop = StopAtCollapse(GrpoSection(**settings), QUIET, tmp_path / "best")
    assert reason in stop.find_reason([row] * ROWS)
    assert bool(stop.find_reason([row] * ROWS)) == bool(reason)
    if "entropy" in row:
        assert not stop.find_reason([row] * (ROWS - 1))
