"""The stop at collapse of a training on sampled answers, and the weights that are kept then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from edgetune.log import Log
from edgetune.recipe.sampling import SamplingSection

ROWS = 10  # logged steps in a row


class StopAtCollapse(TrainerCallback):
    """Stops where answers are all alike, never end, or have gone too far from where they began.

    Reinforced models end in one answer to everything (entropy near 0), or in answers without an
    end. What is kept then are the weights of the best mean reward so far.

    Attributes:
        reason: why training was stopped; empty while it was not.
    """

    def __init__(self, settings: SamplingSection, log: Log, folder: Path) -> None:
        self._settings, self._log, self._folder = settings, log, folder
        self.reason = ""

    @property
    def best(self) -> Path | None:
        """The folder of the kept weights."""
        return self._folder if self._folder.is_dir() else None

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        model: Any = None, **_: Any,
    ) -> None:  # fmt: skip
        rows = [row for row in state.log_history if "reward" in row]
        if not rows:
            return
        rewards = [row["reward"] for row in rows]
        if len(rewards) > 1 and rewards[-1] >= max(rewards[:-1]) and model is not None:
            model.save_pretrained(self._folder)
        self.reason = self.find_reason(rows[-ROWS:])
        if self.reason:
            self._log.warn(
                f"stopped at step {state.global_step}: {self.reason}"
                + ("; the weights of the best mean reward are kept" if self.best else "")
            )
            control.should_training_stop = True

    def find_reason(self, rows: list[dict[str, Any]]) -> str:
        """Return why training is to stop after these logged steps, or an empty text."""
        settings = self._settings
        entropy = [row["entropy"] for row in rows if "entropy" in row]
        if len(entropy) == ROWS and max(entropy) < settings.min_entropy:
            return (
                f"the answers have collapsed, entropy {entropy[-1]:.4f} nats per token over {ROWS} "
                f"logged steps (min_entropy {settings.min_entropy:g})"
            )
        clipped = [row.get("completions/clipped_ratio", 0.0) for row in rows]
        if len(clipped) == ROWS and min(clipped) > settings.max_clipped:
            return f"{clipped[-1]:.0%} of the answers have no end (max_clipped)"
        kl = [row["kl"] for row in rows if "kl" in row]
        if settings.max_kl is not None and kl and kl[-1] > settings.max_kl:
            return f"KL {kl[-1]:.3f} to the model before the step (max_kl {settings.max_kl:g})"
        return ""
