"""On-policy distillation: the teacher's distributions at tokens that the student samples.

(Agarwal et al. 2023, arXiv 2306.13649, section 3.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from trl import DistillationConfig, DistillationTrainer

from edgetune.data.encode import Encoder
from edgetune.data.encoded import Encoded
from edgetune.data.rows import Row
from edgetune.facts import TargetFacts
from edgetune.recipe import DistillSection
from edgetune.train.arguments import count_steps, trainer_arguments
from edgetune.train.distillation.targets import Distillation
from edgetune.train.inputs import TrainingRun
from edgetune.train.loop import Outcome, run_trainer
from edgetune.train.precision import keep_trainable_float32


class _Trainer(DistillationTrainer):
    """TRL's, but prompts are tokenized as the contract says: nothing is added to their text."""

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        tokenizer: Any = self.processing_class
        coded = tokenizer(text=prompts, add_special_tokens=False)
        return coded["input_ids"], None, {}


@dataclass(frozen=True)
class SampledTargets:
    """Prompts that the student answers while it is trained, and the teacher of its tokens.

    Attributes:
        teacher: a model in eval mode, of the same tokenizer.
        encoder: renders prompts and names the end tokens.
        prompts: rows whose prompts alone are used.
    """

    teacher: Any
    encoder: Encoder
    prompts: Sequence[Row]

    @property
    def facts(self) -> TargetFacts:
        return TargetFacts()

    def train(
        self, student: Any, validation: Sequence[Encoded], section: DistillSection, run: TrainingRun
    ) -> Outcome:
        return train_on_policy(student, self, section, run)


def make_targets(distillation: Distillation) -> SampledTargets:
    """Return the prompts of all rows."""
    prompts = [*distillation.answered, *distillation.prompts]
    return SampledTargets(distillation.teacher.model, distillation.encoder, prompts)


def train_on_policy(
    student: Any, targets: SampledTargets, section: DistillSection, run: TrainingRun
) -> Outcome:
    """Train the student on samples of its own answers.

    At each step it samples answers; its distribution at each of their tokens is pulled to the
    teacher's by ``section.divergence``.

    Args:
        student: adapters added, or all parameters trainable.
        targets: prompts and teacher.
        section: settings; without validation, ``patience`` has no meaning.
        run: its seed, and where it writes.
    """
    encoder = targets.encoder
    keep_trainable_float32(student)
    student.generation_config.eos_token_id = list(encoder.stop_ids)
    steps = count_steps(section, len(targets.prompts))
    arguments = trainer_arguments(section, steps, run, student, False)
    beta = {"forward_kl": 0.0, "reverse_kl": 1.0, "jsd": section.divergence_mix}
    prompts = [encoder.prompt_text(row) for row in targets.prompts]
    trainer = _Trainer(
        model=student,
        teacher_model=targets.teacher,
        args=DistillationConfig(
            **arguments,
            beta=beta[section.divergence],
            temperature=section.temperature,
            max_completion_length=section.max_new_tokens,
        ),
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=encoder.tokenizer,
    )
    keep_trainable_float32(trainer.model)
    tokens = sum(map(len, encoder.tokenizer(prompts, add_special_tokens=False)["input_ids"]))
    patient = section.model_copy(update={"patience": None})
    return run_trainer(trainer, patient, tokens / len(prompts), run)
