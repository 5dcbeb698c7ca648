"""What a step's model earns for sampled answers to validation prompts, before and after it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch

from edgetune.disk import write_atomic
from edgetune.measure.statistics import mean
from edgetune.recipe.sampling import SamplingSection
from edgetune.train.inputs import TrainingRun
from edgetune.train.objectives.prompts import Prompts

BATCH_PROMPTS = 8


class Judge:
    """Rewards sampled answers to the same validation prompts, before and after."""

    def __init__(
        self, trainer: Any, prompts: Prompts, settings: SamplingSection, run: TrainingRun
    ) -> None:
        self._trainer, self._prompts, self._settings, self._run = trainer, prompts, settings, run

    def score(self, when: str) -> list[list[float]]:
        """Return the rewards of each prompt's answers; kept on disk for a resumed run."""
        kept = self._run.checkpoints.parent / f"{self._run.role}-rewards-{when}.json"
        if kept.exists() and when == "before":
            found: list[list[float]] = json.loads(kept.read_text())
            return found
        scores = self._sample()
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(kept, json.dumps(scores))
        return scores

    @torch.no_grad()
    def _sample(self) -> list[list[float]]:
        trainer, prompts, count = self._trainer, self._prompts, self._settings.generations
        model, was_training = trainer.model, trainer.model.training
        trainer.model_wrapped = trainer.model_wrapped or model
        model.eval()
        totals: list[list[float]] = []
        try:
            for at in range(0, len(prompts.rows), BATCH_PROMPTS):
                rows, ids = (
                    prompts.rows[at : at + BATCH_PROMPTS],
                    prompts.ids[at : at + BATCH_PROMPTS],
                )
                answers = self._generate([one for one in ids for _ in range(count)])
                repeated = [row for row in rows for _ in range(count)]
                scored = [[r.weight * s for s in r(repeated, answers)] for r in trainer.rewards]
                sums = [sum(column) for column in zip(*scored, strict=True)]
                totals += [sums[n : n + count] for n in range(0, len(sums), count)]
        finally:
            model.train(was_training)
        return totals

    def _generate(self, ids: Sequence[Sequence[int]]) -> list[str]:
        trainer = self._trainer
        longest = max(map(len, ids))
        pad = trainer.processing_class.pad_token_id
        padded = torch.tensor([[pad] * (longest - len(one)) + list(one) for one in ids])
        mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in ids])
        device = trainer.args.device
        with torch.random.fork_rng():
            torch.manual_seed(trainer.args.seed)
            found = trainer.model.generate(
                input_ids=padded.to(device), attention_mask=mask.to(device),
                generation_config=trainer.generation_config,
            )  # fmt: skip
        decode = trainer.encoder.decode_answer
        return [decode(one) for one in found[:, longest:].tolist()]


def compare(before: list[list[float]], after: list[list[float]] | None) -> dict[str, float]:
    """Return mean rewards, the difference with its interval, and best of n before the step."""
    first = [sum(one) / len(one) for one in before]
    best = [max(one) for one in before]
    figures = {
        "reward_before": mean(first).value,
        f"best_of_{len(before[0])}_before": mean(best).value,
    }
    if after is None:
        return figures
    last = [sum(one) / len(one) for one in after]
    gain = mean([b - a for a, b in zip(first, last, strict=True)])
    low, high = gain.ci95 or (float("nan"), float("nan"))
    return {
        **figures,
        "reward_after": mean(last).value,
        "reward_gain": gain.value,
        "reward_gain_low": low,
        "reward_gain_high": high,
    }


def describe(figures: dict[str, float]) -> list[str]:
    if "reward_after" not in figures:
        return []
    best = next(name for name in figures if name.startswith("best_of_"))
    return [
        f"reward of sampled answers to validation prompts: {figures['reward_before']:.3f} -> "
        f"{figures['reward_after']:.3f} ({figures['reward_gain']:+.3f}, "
        f"{figures['reward_gain_low']:+.3f} to {figures['reward_gain_high']:+.3f}); "
        f"{best.removesuffix('_before').replace('_', ' ')} before the step: {figures[best]:.3f}"
    ]
