"""What happens around the steps: the bar, the log, sealed checkpoints, the best weights, a stop."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from edgetune.artifact import hash_file
from edgetune.disk import sync_folder, sync_tree, write_atomic
from edgetune.log import Log, Progress
from edgetune.train.inputs import Score, TrainingRun

SEAL = "sealed.json"


class ShowProgress(TrainerCallback):
    """Draws the bar (loss, tokens/s) and appends every figure to the log."""

    def __init__(self, log: Log, bar: Progress, tokens_per_step: float, run: TrainingRun) -> None:
        self._log, self._bar, self._role, self._logged = log, bar, run.role, run.logged
        self._tokens = tokens_per_step
        self._mark = (0, time.monotonic())
        self._validated = 0  # batches of the validation that is running
        self._began: float | None = None  # of this process's first step

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._bar.skip(state.global_step)
        self._began = time.monotonic()
        self._mark = (state.global_step, self._began)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._bar.update(1)
        if self._began is not None:
            seconds, self._began = time.monotonic() - self._began, None
            left = state.max_steps - state.global_step
            self._log.event("first_step", role=self._role, seconds=round(seconds, 3), steps=left)

    def on_prediction_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        eval_dataloader: Any = None,
        **_: Any,
    ) -> None:
        self._validated += 1
        self._bar.update(0, validation=f"{self._validated}/{len(eval_dataloader)}")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        logs = dict(logs or {})
        step, now = state.global_step, time.monotonic()
        names = ["loss", "eval_loss", "learning_rate", "grad_norm", *self._logged]
        names += [f"eval_{name}" for name in self._logged]
        figures: dict[str, Any] = {name: logs[name] for name in names if name in logs}
        if "loss" in logs and step > self._mark[0]:
            speed = (step - self._mark[0]) * self._tokens / (now - self._mark[1])
            self._mark = (step, now)
            figures["tokens_per_s"] = round(speed, 1)
            self._bar.update(0, loss=f"{logs['loss']:.4f}", speed=f"{speed:,.0f} tok/s")
        if "eval_loss" in logs:
            self._validated = 0
            self._mark = (step, now)  # validation time is not training time
            shown = {
                one: f"{logs['eval_' + one]:.2f}"
                for one in self._logged[:1]
                if f"eval_{one}" in logs
            }
            self._bar.update(0, validation=f"{logs['eval_loss']:.4f}", **shown)
        if figures:
            tokens = round(step * self._tokens)
            self._log.event("train", role=self._role, step=step, tokens=tokens, **figures)


class SealCheckpoints(TrainerCallback):
    """Writes ``sealed.json`` (hashes) last, so that a torn checkpoint is never resumed."""

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        folder = Path(args.output_dir or ".") / f"checkpoint-{state.global_step}"
        hashes = {p.name: hash_file(p) for p in sorted(folder.iterdir()) if p.is_file()}
        sync_tree(folder)
        sync_folder(folder.parent)
        write_atomic(folder / SEAL, json.dumps(hashes))


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint with most steps whose seal holds, or none."""
    found = sorted(
        folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]), reverse=True
    )
    for checkpoint in found:
        try:
            hashes = json.loads((checkpoint / SEAL).read_text())
            if all(hash_file(checkpoint / name) == value for name, value in hashes.items()):
                return checkpoint
        except (OSError, ValueError):
            continue
    return None


class MeasureScore(TrainerCallback):
    """Puts a score of the model into the history beside each validation's loss."""

    def __init__(self, score: Score) -> None:
        self._score = score

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        state.log_history[-1][f"eval_{self._score.name}"] = self._score(model)


def find_best(history: list[dict[str, Any]], score: str | None) -> int:
    """Return the number of the best validation: of the highest score, or of the lowest loss.

    Of equal scores the one with the lowest loss is the best.
    """
    rows = [row for row in history if "eval_loss" in row]

    def rank(number: int) -> tuple[float, float]:
        row = rows[number]
        return (-row[f"eval_{score}"] if score else 0.0, row["eval_loss"])

    return min(range(len(rows)), key=rank)


class KeepBest(TrainerCallback):
    """Keeps the weights of the best validation and stops after ``patience`` without a better one.

    All it needs is in the trainer's own history, so a resumed run decides as an unbroken one.
    """

    def __init__(self, folder: Path, patience: int, score: str | None = None) -> None:
        self._folder, self._patience, self._score = folder, patience, score

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        last = sum("eval_loss" in row for row in state.log_history) - 1
        best = find_best(state.log_history, self._score)
        if best == last:
            model.save_pretrained(self._folder)
        elif last - best >= self._patience:
            control.should_training_stop = True


class StopWhenAsked(TrainerCallback):
    """Saves a checkpoint and ends training at the next step once a stop was asked for."""

    def __init__(self) -> None:
        self.asked = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self.asked:
            control.should_save = True
            control.should_training_stop = True

    @contextmanager
    def listening(self, log: Log) -> Iterator[None]:
        """Turn the first SIGINT or SIGTERM into a stop at the next step; the second is final."""

        def ask(number: int, frame: FrameType | None) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True
            log.say("stopping: saving a checkpoint first (once more to stop at once)")

        try:
            previous = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: signals are somebody else's
            previous = {}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
