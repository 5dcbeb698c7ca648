"""What TRL's trainers on preferences are given: our tokens, our order of rows, our errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from datasets.utils.logging import disable_progress_bar
from torch.utils.data import Sampler, SequentialSampler

from edgetune.errors import MachineFault
from edgetune.models.adapters import restore_adapter
from edgetune.train.arguments import count_steps, trainer_arguments
from edgetune.train.length_batches import LengthBatches
from edgetune.train.loop import Outcome
from edgetune.train.precision import unchanged_weights
from edgetune.train.preference.rows import TokenRows

if TYPE_CHECKING:
    from edgetune.train.tuning_step import Tuning


class PreferenceMixin:
    """For a trainer of TRL: rows that are tokens already, those of similar length together.

    The loss stays TRL's. It is a mean over the rows of a forward pass, and some kinds compare these
    rows with each other: halving a batch would change it, so too little memory is an error.
    """

    args: Any
    train_dataset: Any
    lengths: Sequence[int] | None = None  # tokens of each row; none: the rows are in their order

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset  # its columns are there

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        if self.lengths is None:
            return SequentialSampler(self.train_dataset)
        rows = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return LengthBatches(self.lengths, rows, self.args.seed)

    def training_step(self, *arguments: Any, **named: Any) -> torch.Tensor:
        """Return a micro-batch's loss, its gradients added up.

        Raises:
            MachineFault: out of memory.
        """
        with needing_memory():
            loss: torch.Tensor = super().training_step(*arguments, **named)  # type: ignore[misc]
        return loss


def build_trainer(
    kinds: tuple[type, type], tuning: Tuning, train: TokenRows, validation: TokenRows,
    collate: Any, settings: dict[str, Any],
) -> Any:  # fmt: skip
    """Return a trainer of TRL over rows that are tokens.

    Args:
        kinds: the trainer, with :class:`PreferenceMixin`, and TRL's class of its arguments.
        tuning: model, tokenizer and settings of the optimization.
        train: rows to train on.
        validation: rows of each validation.
        collate: puts rows together.
        settings: arguments of the objective's own.
    """
    disable_progress_bar()
    section, run = tuning.section, tuning.run
    steps = count_steps(section, len(train))
    arguments = trainer_arguments(section, steps, run, tuning.model, len(validation) > 0)
    trainer_kind, config_kind = kinds
    with unchanged_weights(tuning.model):
        trainer: Any = trainer_kind(
            model=tuning.model,
            args=config_kind(
                **{"max_length": None, **arguments, **settings}, disable_dropout=not section.dropout
            ),
            train_dataset=train.as_dataset(),
            eval_dataset=validation.as_dataset() if len(validation) else None,
            processing_class=tuning.tokenizer,
            data_collator=collate,
        )
    trainer.train_dataset = train
    trainer.eval_dataset = validation if len(validation) else None
    return trainer


def best_model(model: Any, outcome: Outcome) -> Any:
    """Return the model with the best weights where validation was watched, else with the last."""
    if outcome.best is None:
        return model
    if not hasattr(model, "peft_config"):
        return type(model).from_pretrained(outcome.best).to(model.device)
    restore_adapter(model, outcome.best)
    return model


@contextmanager
def needing_memory() -> Iterator[None]:
    """Say what to do where a GPU runs out of memory.

    Raises:
        MachineFault: instead of torch's error.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise MachineFault(
            "the GPU's memory does not suffice for a batch of answers",
            where=str(error)[:200],
            hint="set tune.gradient_checkpointing: true, or a smaller tune.batch_size with more "
            "gradient_accumulation",
        ) from error
