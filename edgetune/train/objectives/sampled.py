"""What `grpo` and `rloo` have in common: prompts, sampled answers, rewards, and when to stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar

from edgetune.data.encode import Encoder
from edgetune.data.rows import Row
from edgetune.errors import InputError
from edgetune.recipe import TuneSection
from edgetune.recipe.sampling import SamplingSection
from edgetune.train.arguments import count_steps, trainer_arguments
from edgetune.train.loop import run_trainer
from edgetune.train.objectives.collapse import StopAtCollapse
from edgetune.train.objectives.judge import Judge, compare, describe
from edgetune.train.objectives.prompts import Prompts
from edgetune.train.objectives.start_model import StartModel
from edgetune.train.precision import keep_trainable_float32, unchanged_weights
from edgetune.train.rewards import NamedReward, Scope, make_rewards
from edgetune.train.tuning_step import Trained, Tuning

JUDGED_ROWS = 64  # validation rows whose sampled answers are rewarded before and after
CONSTANT_ANSWERS = 64  # after so many of one reward there is nothing to learn


class SampledMixin:
    """For TRL's trainers that sample: our prompts, end tokens and rewards in the place of theirs.

    Sampling is seeded by the step, so that a resumed run samples what an unbroken one does.
    """

    args: Any
    state: Any
    prompts: Prompts
    encoder: Encoder
    rewards: list[NamedReward]
    _seen: set[float]
    _counted = 0

    def _tokenize_prompts(self, prompts: list[str]) -> Any:
        return [list(self.prompts.ids[int(number)]) for number in prompts], None, {}

    def _generate_single_turn(self, *arguments: Any, **named: Any) -> Any:
        trl: Any = super()
        with torch.random.fork_rng():
            torch.manual_seed(self.args.seed * 1_000_003 + self.state.global_step)
            return trl._generate_single_turn(*arguments, **named)

    def _calculate_rewards(
        self, inputs: Any, prompts: list[str], completions: Any, completion_ids_list: Any
    ) -> torch.Tensor:
        """Return the score of each answer by each reward, [answers, rewards].

        Raises:
            InputError: a reward fails; the training's state is saved first.
        """
        rows = [self.prompts.rows[int(number)] for number in prompts]
        answers = [self.encoder.decode_answer(ids) for ids in completion_ids_list]
        try:
            scores = [reward(rows, answers) for reward in self.rewards]
            self._refuse_constant(scores)
        except InputError:
            self._keep_state()
            raise
        return torch.tensor(scores, dtype=torch.float32, device=self.args.device).T

    def _refuse_constant(self, scores: list[list[float]]) -> None:
        """Refuse rewards that are one number whatever is answered."""
        weights = [reward.weight for reward in self.rewards]
        totals = [sum(w * one for w, one in zip(weights, column, strict=True))
                  for column in zip(*scores, strict=True)]  # fmt: skip
        if self._counted >= CONSTANT_ANSWERS:
            return
        self._seen = getattr(self, "_seen", set()) | set(totals)
        self._counted += len(totals)
        if len(self._seen) == 1 and self._counted >= CONSTANT_ANSWERS:
            raise InputError(
                f"the reward is {totals[0]:g} for each of the first {self._counted} answers, so "
                "there is nothing to learn",
                where="rewards",
                hint="reward something that some of the model's answers have and others do not, or "
                "teach it the form first by a step of sft",
            )

    def _keep_state(self) -> None:
        trainer: Any = self
        if self.state.global_step:
            trainer._save_checkpoint(trainer.model, None)
            trainer.callback_handler.on_save(trainer.args, trainer.state, trainer.control)


def train_sampled(
    tuning: Tuning, settings: SamplingSection, kind: type[Any], config: Any
) -> Trained:
    """Train a step's model on answers that it samples.

    Args:
        tuning: the step.
        settings: of the objective.
        kind: TRL's trainer with :class:`SampledMixin` before it.
        config: makes TRL's configuration of keyword arguments.

    Raises:
        InputError: rewards that do not work, or batches that groups of answers do not fill.
    """
    section, run, name = tuning.section, tuning.run, tuning.section.objective
    _check_batches(section, settings, name)

    # 1. Rewards, tried before the work on the answers that the rows have.
    scope = Scope(str(tuning.model.device.type), settings.reward_seconds, tuning.reward_models)
    rewards = make_rewards(settings, scope, f"tune.{name}")
    prompts = _read(tuning, "train")
    judged = _read(tuning, "validation", JUDGED_ROWS)
    _try(rewards, prompts.rows[:8])

    # 2. TRL's trainer over numbers of prompts.
    trainer = _make_trainer(tuning, settings, kind, config, rewards)
    trainer.prompts, trainer.train_dataset = prompts, _number(prompts)

    # 3. What the model before the step earns, and the best of several answers of it.
    judge = Judge(trainer, judged, settings, run)
    before = judge.score("before")

    # 4. Train, until the answers collapse at the latest.
    answers = len(prompts.rows) * settings.generations
    trainer.args.max_steps = count_steps(section, answers)
    stop = StopAtCollapse(settings, run.log, run.checkpoints / "best")
    trainer.add_callback(stop)
    length = sum(map(len, prompts.ids)) / len(prompts.ids) + settings.max_new_tokens
    outcome = run_trainer(trainer, section, length, run)
    if stop.reason:
        outcome = replace(outcome, best=stop.best)

    # 5. What it earns now, on the same prompts.
    after = judge.score("after") if not stop.reason else None
    figures = compare(before, after)
    for line in describe(figures):
        run.log.say(line)
    counts = {"rows": len(prompts.rows), "tokens": sum(map(len, prompts.ids))}
    return Trained(outcome, counts, figures)


def _make_trainer(
    tuning: Tuning, settings: SamplingSection, kind: type[Any], config: Any,
    rewards: list[NamedReward],
) -> Any:  # fmt: skip
    """Return TRL's trainer, which ends answers by the encoder's stop ids."""
    disable_progress_bar()
    keep_trainable_float32(tuning.model)
    arguments = trainer_arguments(tuning.section, 1, tuning.run, tuning.model, has_validation=False)
    with unchanged_weights(tuning.model):
        trainer: Any = kind(
            model=tuning.model,
            reward_funcs=[_named(reward) for reward in rewards],
            args=config(
                **arguments,
                beta=0.0,  # the reference is set below: TRL would copy the adapter into the model
                num_generations=settings.generations,
                max_completion_length=settings.max_new_tokens,
                temperature=settings.temperature,
                top_p=settings.top_p,
                reward_weights=[reward.weight for reward in rewards],
            ),
            train_dataset=Dataset.from_dict({"prompt": ["0"]}),
            processing_class=tuning.tokenizer,
        )
    trainer.encoder, trainer.rewards = tuning.encoder, rewards
    stop_ids = list(tuning.encoder.stop_ids)
    trainer.eos_token_ids = stop_ids
    trainer.generation_config.eos_token_id = stop_ids
    trainer.generation_kwargs["eos_token_id"] = stop_ids
    trainer.beta = getattr(settings, "beta", 0.0)
    if trainer.beta:
        trainer.ref_model = StartModel(trainer.model)
    return trainer


def _number(prompts: Prompts) -> Dataset:
    """Return the numbers of the prompts, which TRL's loader orders and repeats."""
    return Dataset.from_dict({"prompt": [str(number) for number in range(len(prompts.rows))]})


def _read(tuning: Tuning, split: str, most: int | None = None) -> Prompts:
    """Return the prompts of a split, evenly taken where there are more than ``most``."""
    rows: Sequence[Row] = getattr(tuning.rows, split)
    if split == "train" and tuning.train is not None:
        rows = tuning.train
    if most is not None and len(rows) > most:
        rows = [rows[number * len(rows) // most] for number in range(most)]
    found = Prompts.of(rows, tuning.encoder)
    longest = tuning.data.max_length
    keep = [at for at, ids in enumerate(found.ids) if len(ids) < longest]
    if len(keep) < len(found.ids):
        tuning.run.log.warn(
            f"{split}: {len(found.ids) - len(keep)} prompts of data.max_length ({longest}) tokens "
            "or more are left out"
        )
    if not keep:
        raise InputError(f"no prompt of {split} is shorter than {longest}", where="data.max_length")
    found = found if len(keep) == len(found.ids) else found.select(keep)
    tuning.check_context([len(ids) for ids in found.ids])
    return found


def _check_batches(section: TuneSection, settings: SamplingSection, name: str) -> None:
    answers = section.batch_size * section.gradient_accumulation
    if answers % settings.generations:
        raise InputError(
            f"{settings.generations} answers to a prompt do not fill a step of {answers}",
            where=f"tune.{name}.generations",
            hint="batch_size x gradient_accumulation is to be a multiple of generations",
        )


def _try(rewards: Sequence[NamedReward], rows: Sequence[Row]) -> None:
    """Score the rows' own answers, and empty ones: what raises or gives no number is found here."""
    for reward in rewards:
        for answers in ([row.answer for row in rows], ["" for _ in rows]):
            reward(rows, answers)


def _named(reward: NamedReward) -> Any:
    """Return a function that TRL takes the name of; the scores come from the mixin."""

    def score(**_: Any) -> list[float]:
        raise AssertionError("SampledMixin scores answers")

    score.__name__ = reward.name
    return score
