"""Train a student on what it says itself, graded by the teacher: TRL's trainer, our prompts.

(On-policy distillation: Agarwal et al. 2023, arXiv 2306.13649, section 3.)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import DistillationConfig, DistillationTrainer

from edgetune.data.encode import Encoder
from edgetune.data.rows import Row
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.recipe import DistillSection
from edgetune.train.arguments import count_steps, trainer_arguments
from edgetune.train.loop import Outcome, run_trainer, write_metrics
from edgetune.train.sft import keep_trainable_float32


class _Trainer(DistillationTrainer):
    """TRL's, but prompts are tokenized as the contract says: nothing is added to their text."""

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        tokenizer: Any = self.processing_class
        coded = tokenizer(text=prompts, add_special_tokens=False)
        return coded["input_ids"], None, {}


def check_divergence(section: DistillSection) -> None:
    """Refuse a divergence that TRL has not.

    Raises:
        InputError: ``skewed_kl``.
    """
    if section.divergence == "skewed_kl":
        raise InputError(
            "on_policy has forward_kl, reverse_kl and jsd",
            where="distill.divergence",
            hint="skewed_kl goes with method: online",
        )


def train_on_policy(
    student: Any,
    teacher: Any,
    encoder: Encoder,
    rows: Sequence[Row],
    section: DistillSection,
    seed: int,
    out: Path,
    log: Log,
) -> Outcome:
    """Train ``student``: at each step it samples answers, and the teacher's distribution at each of
    their tokens is what it is pulled to.

    Args:
        student: adapters added, or all parameters trainable.
        teacher: a model in eval mode, of the same tokenizer.
        encoder: renders prompts and names the end tokens.
        rows: their prompts alone are used.
        section: the knobs; ``divergence`` as in :func:`check_divergence`.
        seed: of shuffling and sampling.
        out: the artifact's directory.
        log: bar and events.
    """
    keep_trainable_float32(student)
    student.generation_config.eos_token_id = list(encoder.stop_ids)
    device = next(student.parameters()).device.type
    steps = count_steps(section, len(rows))
    folder = out / "scratch" / "student"
    arguments = trainer_arguments(section, steps, folder, seed, device, False)
    beta = {"forward_kl": 0.0, "reverse_kl": 1.0, "jsd": section.divergence_mix}
    prompts = [encoder.prompt_text(row) for row in rows]
    trainer = _Trainer(
        model=student,
        teacher_model=teacher,
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
    outcome = run_trainer(
        trainer, steps, tokens / len(rows) * section.batch_size * section.gradient_accumulation,
        None, "student", log,
    )  # fmt: skip
    write_metrics(trainer.state.log_history, "student", out / "metrics.jsonl")
    return outcome
