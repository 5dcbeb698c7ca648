"""Answers that a run's `bench` kept, instead of asking models again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgetune.data.split import choose_rows
from edgetune.errors import InputError
from edgetune.evaluate.predictions import FOLDER, Predictions, read_predictions
from edgetune.rundir import RunDir
from edgetune.votes.answers import Asking
from edgetune.votes.page import Question


def find_predictions(folder: Path) -> Predictions | None:
    """Return the answers that a run, or a folder that `bench` wrote, holds; none in other folders.

    Raises:
        InputError: a run without them.
    """
    if (found := read_predictions(folder / FOLDER)) is not None:
        return found
    if not (folder / "recipe.yaml").is_file():
        return None
    run = RunDir(folder)
    key = run.plan().get("bench")
    found = read_predictions(run.stage_path("bench", key) / FOLDER) if key else None
    if found is None:
        raise InputError(
            "this run kept no answers", where=str(folder),
            hint="run it with a section `bench` and test rows, or name models and --data",
        )  # fmt: skip
    return found


def read_answers(
    kept: Predictions, wanted: Sequence[str], asking: Asking
) -> tuple[list[str], list[list[str]], list[Question]]:
    """Return names of models, their answers, one text per row, and the rows, chosen by the seed.

    Args:
        kept: of the run.
        wanted: names of models; none: all of them.
        asking: which rows.

    Raises:
        InputError: no such model, or fewer than two.
    """
    known = {model.name: model for model in kept.models}
    names = list(wanted or known)
    for name in names:
        if name not in known:
            raise InputError(
                f"no model of this run is called {name}", where=str(kept.folder),
                hint=f"its models are {', '.join(known)}",
            )  # fmt: skip
    if len(set(names)) < 2:
        raise InputError(
            "two models are needed", where=str(kept.folder), hint=f"there are {', '.join(known)}"
        )
    questions = kept.questions()
    chosen = choose_rows(range(len(questions)), asking.most, asking.seed)
    answers = []
    for name in names:
        texts = kept.answers(known[name])
        answers.append([texts[number] for number in chosen])
    rows = [
        Question(
            [("user", questions[number].prompt)],
            questions[number].expected if asking.expected else "",
        )
        for number in chosen
    ]
    return names, answers, rows
