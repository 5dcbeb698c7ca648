"""STAGES, one row a stage, and the stages of a recipe in the order in which they run."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgetune.artifact import Artifact
from edgetune.facts import StageFacts
from edgetune.log import Log
from edgetune.recipe import Recipe, Sections, TuneSection
from edgetune.recipe.grading import GRADING_KEYS
from edgetune.recipe.sampling import SAMPLING
from edgetune.train.objectives import LANGUAGE_MODEL, OBJECTIVES, REWARD_MODEL


@dataclass(frozen=True)
class Stage:
    """One row: what the stage reads of the recipe, what it needs, what it makes.

    ``version`` goes up when the stage's output changes for equal inputs: old artifacts are stale.
    """

    name: str
    kind: str
    version: int
    sections: tuple[str, ...]
    inputs: tuple[str, ...]
    #: The section without which the stage is left out, where it has another name.
    section: str = ""
    #: Dotted names of keys that decide nothing of what the stage makes.
    left_out: tuple[str, ...] = ()

    def is_in(self, recipe: Recipe) -> bool:
        """Whether the recipe asks for the stage."""
        return getattr(recipe, self.section or self.name) is not None

    @property
    def function(self) -> Callable[[Sections, dict[str, Artifact], Path, Log], StageFacts]:
        """The stage's ``run``, imported when it is needed: it brings torch with it."""
        return importlib.import_module(f"edgetune.stages.{self.name}").run  # type: ignore[no-any-return]


STAGES = (
    Stage("synthesize", "rows", 1, ("device", "data", "synthesize"), ()),
    Stage("prepare", "dataset", 2, ("tokenizer", "data"), ("synthesize",), section="data"),
    Stage("tune", "adapter", 10, ("model", "data", "tune"), ("prepare",)),
    Stage(
        "control", "adapter", 2, ("model", "data", "tune"), ("synthesize", "prepare", "tune"),
        section="control",
    ),
    Stage("distill", "student", 11, ("model", "data", "distill"), ("prepare", "tune")),
    Stage("merge", "model", 7, ("device", "data", "merge"), ("prepare", "tune", "distill")),
    Stage(
        "quantize", "plan", 5, ("file_name", "device", "data", "quantize", "requests"),
        ("prepare", "merge"),
    ),
    Stage(
        "export", "files", 12, ("file_name", "device", "data", "quantize", "export"),
        ("prepare", "tune", "merge", "quantize"),
    ),
    Stage(
        "bench", "measurements", 12, ("model", "data", "bench"),
        ("prepare", "tune", "distill", "merge", "export"), left_out=GRADING_KEYS,
    ),
)  # fmt: skip

#: Inputs of a tuning step beside its rows: the step before, and the rows that gains are told on.
PREVIOUS, GAIN_ROWS = "previous", "gain_rows"
#: Before the name of an earlier step whose reward model a step asks.
REWARD = "reward:"


@dataclass(frozen=True)
class Listed:
    """A stage of a recipe.

    Attributes:
        stage: its row.
        label: what it is called in this run: the stage's name, or ``tune-NAME`` and
            ``prepare-NAME`` for a step of the tuning and its rows.
        recipe: as the stage sees it.
        inputs: label of each input, by the name that the stage knows it by.
    """

    stage: Stage
    label: str
    recipe: Recipe
    inputs: dict[str, str] = field(default_factory=dict)


def list_stages(recipe: Recipe) -> list[Listed]:
    """Return the stages of a recipe in order, one for each step of its tuning.

    The last step that gives a language model is called ``tune``, and the stages after it read it.
    """
    rows = {stage.name: stage for stage in STAGES}
    found: list[Listed] = []
    for stage in STAGES:
        if not stage.is_in(recipe):
            continue
        if stage.name == "tune":
            found += _list_steps(recipe, rows["prepare"], stage)
            continue
        labels = {one.label for one in found}
        inputs = {name: name for name in stage.inputs if name in labels}
        seen = recipe.at_step(0) if stage.name == "control" else recipe
        found.append(Listed(stage, stage.name, seen, inputs))
    return found


def _list_steps(recipe: Recipe, prepare: Stage, tune: Stage) -> Iterator[Listed]:
    """Yield the steps of the tuning, each after the rows of its own."""
    steps, labels = recipe.steps, recipe.step_labels
    previous = ""
    for number, step in enumerate(steps):
        seen = recipe.at_step(number)
        label = labels[number]
        rows = "prepare"
        if step.data is not None or seen.tokenizer != recipe.tokenizer:
            rows = f"prepare-{step.name}"
            written = step.data is None and recipe.synthesize is not None
            yield Listed(prepare, rows, seen, {"synthesize": "synthesize"} if written else {})
        inputs = {"prepare": rows}
        if len(steps) > 1 or step.data is not None:
            inputs[GAIN_ROWS] = "prepare"
        if previous:
            inputs[PREVIOUS] = previous
        inputs |= {f"{REWARD}{name}": f"tune-{name}" for name in _reward_steps(steps, number)}
        yield Listed(tune, label, seen, inputs)
        if OBJECTIVES[step.objective].gives == LANGUAGE_MODEL:
            previous = label


def _reward_steps(steps: Sequence[TuneSection], number: int) -> list[str]:
    """Return the names of earlier steps whose reward models a step asks by ``model:NAME``."""
    step = steps[number]
    if step.objective not in SAMPLING:
        return []
    given = getattr(step, step.objective).rewards
    texts = {one if isinstance(one, str) else one.reward for one in given}
    models = [s.name for s in steps[:number] if OBJECTIVES[s.objective].gives == REWARD_MODEL]
    return [str(name) for name in models if f"model:{name}" in texts]
