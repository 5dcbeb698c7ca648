"""A study's trials, chosen and kept by Optuna: taken, pruned, told and listed."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import optuna
from optuna.trial import FrozenTrial, TrialState

from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.recipe.search import MAXIMIZED, Choices, Range, SearchSection, label_of
from edgetune.sweep.identity import first_difference
from edgetune.sweep.owner import describe_process, is_gone
from edgetune.sweep.storage import (
    DOWN,
    JOURNAL,
    call_patiently,
    describe_fault,
    hide_password,
    open_storage,
)
from edgetune.sweep.trials import Trial

T = TypeVar("T")
#: A trial whose process was killed so often has failed: it may take its process with it.
MOST_ATTEMPTS = 5
STARTUP_TRIALS = 3  # finished ones before any is pruned


class Study:
    """A study that several processes may work on at once.

    Args:
        search: what is varied and evaluated.
        storage: URL of a database; absent: a journal in ``folder``.
        name: of the study.
        folder: of the sweep.
        log: told when the storage does not answer.

    Raises:
        InputError: the storage cannot be reached, or the study has other objectives.
    """

    def __init__(
        self, search: SearchSection, storage: str | None, name: str, folder: Path, log: Log
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", module=r"optuna\.")
        self.search, self.name = search, name
        self._log = log
        self._where = hide_password(storage) if storage else str(folder / JOURNAL)
        try:
            self._storage = open_storage(storage, folder)
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=name,
                directions=[
                    "maximize" if o in MAXIMIZED else "minimize" for o in search.objectives
                ],
                pruner=_make_pruner(search.pruner),
                load_if_exists=True,
            )
        except DOWN as error:
            raise InputError(
                f"the study's database cannot be reached: {describe_fault(error)}",
                where=self._where,
                hint="start it, or leave --storage out for a file in the sweep's folder",
            ) from error

    def bind(self, identity: Mapping[str, Any]) -> None:
        """Keep what the study is of, or compare it with what was kept.

        Raises:
            InputError: the study is of another recipe, data or model; names what differs.
        """
        plain = json.loads(json.dumps(identity, default=str))
        kept = self.recall("recipe")
        if kept is None:
            self.remember("recipe", plain)
        elif kept != plain:
            raise InputError(
                f"this is a study of another recipe: {first_difference(kept, plain)}",
                where=f"study {self.name}",
                hint="name another with --study, or another --out; only the ends of ranges may "
                "change",
            )

    def take(self, total: int, own: Mapping[str, Any], seed: int) -> Taken | None:
        """Return the next trial to work on, or none where ``total`` are made and none is left.

        What a process had taken that ended comes first. Who works in the same folder holds its
        lock meanwhile.

        Args:
            total: trials of the study.
            own: the recipe's own values, which the first trial has.
            seed: of the sampler; after the same trials it chooses the same next one.
        """
        return self.patiently(lambda: self._take(total, own, seed))

    def _take(self, total: int, own: Mapping[str, Any], seed: int) -> Taken | None:
        for one in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            began = one.datetime_start.timestamp() if one.datetime_start else 0.0
            beat = max(began, float(one.user_attrs.get("beat", 0.0)))
            if is_gone(one.user_attrs.get("owner"), beat):
                self._give_up(one)
        trials = self._study.get_trials(deepcopy=False)
        if not trials:
            inside = all(_holds(self.search.space[key], value) for key, value in own.items())
            self._study.enqueue_trial({k: label_of(v) for k, v in own.items()} if inside else {})
        left = [one for one in trials if one.state == TrialState.WAITING and one.number < total]
        if not left and len(trials) >= total:
            return None
        self._study.sampler = optuna.samplers.TPESampler(seed=(1009 * seed + len(trials)) % 2**31)
        trial = self._study.ask()
        if trial.number >= total:  # another machine made the last one meanwhile
            self._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
            return None
        return self._own(trial, own)

    def _own(self, trial: optuna.Trial, own: Mapping[str, Any]) -> Taken:
        """Sign a trial and choose its values, or take those it has."""
        trial.set_user_attr("beat", time.time())
        trial.set_user_attr("owner", describe_process())
        space = self.search.space
        if "values" in trial.user_attrs:
            values = dict(trial.user_attrs["values"])
        elif trial.number == 0 and not all(_holds(space[k], v) for k, v in own.items()):
            values = dict(own)
        else:
            values = {key: _suggest(trial, key, one) for key, one in space.items()}
        trial.set_user_attr("values", values)
        return Taken(self, trial, values)

    def _give_up(self, trial: FrozenTrial) -> None:
        """Hand a trial whose process has ended to whoever asks next."""
        attempts, number = int(trial.user_attrs.get("attempts", 1)), trial._trial_id
        if attempts >= MOST_ATTEMPTS:
            facts = {"why": f"its process was killed {attempts} times"}
            self._storage.set_trial_user_attr(number, "facts", facts)
            self._storage.set_trial_state_values(number, TrialState.FAIL)
            return
        self._storage.set_trial_user_attr(number, "attempts", attempts + 1)
        self.put_back(number)
        self._log.say(f"trial {trial.number} is taken up again: its process has ended")

    def put_back(self, number: int) -> None:
        """Have a trial wait for its next owner; without one it is nobody's to give up."""
        self._storage.set_trial_user_attr(number, "owner", None)
        self._storage.set_trial_user_attr(number, "beat", time.time())
        self._storage.set_trial_state_values(number, TrialState.WAITING)

    def trials(self) -> list[Trial]:
        """Return every trial, by number."""
        found = self.patiently(lambda: self._study.get_trials(deepcopy=False))
        return [self._read(one) for one in found]

    def importance(self) -> dict[str, float]:
        """Return how much each key decides that a trial is among the best (PED-ANOVA).

        Watanabe, Bansal and Hutter 2023, arXiv 2304.10255. Empty where too few trials are done.
        """
        many = len(self.search.objectives) > 1
        try:
            found = self.patiently(
                lambda: optuna.importance.get_param_importances(
                    self._study,
                    evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
                    target=_first_value if many else None,
                )
            )
        except (ValueError, RuntimeError):
            return {}
        return {key: float(value) for key, value in found.items()}

    def remember(self, name: str, value: Any) -> None:
        """Keep a JSON value of the whole study."""
        self.patiently(lambda: self._study.set_user_attr(name, value))

    def recall(self, name: str) -> Any:
        """Return a kept value, or none."""
        return self.patiently(lambda: self._study.user_attrs).get(name)

    def patiently(self, call: Callable[[], T]) -> T:
        """Call the storage, and wait for it where it is down."""
        return call_patiently(call, self._where, self._log)

    def tell(self, trial: optuna.Trial, state: TrialState, values: Sequence[float] | None) -> None:
        """End a trial."""
        self._study.tell(trial, values, state=state)

    def _read(self, one: FrozenTrial) -> Trial:
        done = one.state == TrialState.COMPLETE
        named = zip(self.search.objectives, one.values or (), strict=False)
        return Trial(
            number=one.number,
            state="failed" if one.state == TrialState.FAIL else one.state.name.lower(),
            values=dict(one.user_attrs.get("values", {})),
            objectives=dict(named) if done else {},
            is_feasible=all(value <= 0 for value in one.constraints.values()),
            owner=(one.user_attrs.get("owner") or {}).get("pid"),
            facts=dict(one.user_attrs.get("facts", {})),
        )


class Taken:
    """A trial that this process works on."""

    def __init__(self, study: Study, trial: optuna.Trial, values: dict[str, Any]) -> None:
        self._study, self._trial = study, trial
        self.number, self.values = trial.number, values

    def beat(self) -> None:
        """Give a sign of life; a storage that is down misses one."""
        try:
            self._trial.set_user_attr("beat", time.time())
        except DOWN:
            return

    def should_prune(self, tokens: int, loss: float) -> bool:
        """Report a validation loss; return whether the trial is behind the others there.

        Optuna compares what is reported in the direction of the objective.
        """
        sign = -1 if self._study.search.objectives[0] in MAXIMIZED else 1
        try:
            self._trial.report(sign * loss, tokens)
            return bool(self._trial.should_prune())
        except DOWN:  # an opinion less: training goes on
            return False

    def complete(
        self, objectives: Sequence[float], excess: Mapping[str, float], facts: Mapping[str, Any]
    ) -> None:
        """Tell what was measured, and by how much each constraint is broken."""

        self._study.patiently(lambda: self._end(TrialState.COMPLETE, objectives, facts, excess))

    def prune(self, facts: Mapping[str, Any]) -> None:
        """Tell that the trial was stopped."""
        self._study.patiently(lambda: self._end(TrialState.PRUNED, None, facts))

    def fail(self, facts: Mapping[str, Any]) -> None:
        """Tell that the trial has no result."""
        self._study.patiently(lambda: self._end(TrialState.FAIL, None, facts))

    def put_back(self) -> None:
        """Leave the trial to whoever takes it up."""
        self._study.patiently(lambda: self._study.put_back(self._trial._trial_id))

    def _end(
        self,
        state: TrialState,
        values: Sequence[float] | None,
        facts: Mapping[str, Any],
        excess: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """End the trial; what another process, which took it for dead, ended stays as it is."""
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            for name, value in excess.items():
                self._trial.set_constraint(name, value)
            self._trial.set_user_attr("facts", dict(facts))
            self._study.tell(self._trial, state, values)


def _make_pruner(name: str) -> optuna.pruners.BasePruner:
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner()
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS)
    return optuna.pruners.NopPruner()


def _suggest(trial: optuna.Trial, key: str, one: Choices | Range) -> Any:
    if isinstance(one, Choices):
        label = trial.suggest_categorical(key, list(one.labels))
        return one.values[one.labels.index(label)]
    if one.kind == "int":
        return trial.suggest_int(key, int(one.low), int(one.high))
    return trial.suggest_float(key, one.low, one.high, log=one.kind == "log")


def _holds(one: Choices | Range, value: Any) -> bool:
    if isinstance(one, Choices):
        return label_of(value) in one.labels
    return isinstance(value, int | float) and one.low <= value <= one.high


def _first_value(trial: FrozenTrial) -> float:
    return float(trial.values[0])
