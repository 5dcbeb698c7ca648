"""Prediction sets on disk: what was asked, what was expected, and what each model answered.

``questions.jsonl`` has one line a row, ``NAME.jsonl`` one line a row and model, ``index.json`` says
which model is in which file. They are read as they are needed: of 40 models the answers of one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgetune.data.rows import Row
from edgetune.disk import write_atomic
from edgetune.errors import InputError

FOLDER = "predictions"
#: Role of an untouched model that is asked with examples: nothing is made of it, it never ships.
PROMPTED = "prompted"
QUESTIONS, INDEX = "questions.jsonl", "index.json"


@dataclass(frozen=True)
class Question:
    """A row that every model was asked.

    Attributes:
        prompt: what was asked, as text, without the chat template.
        expected: the right answer.
        leaked: whether train has the question too, or a similar one.
        where: file and line that it came from.
        columns: other columns of the raw row, by which rows are sliced.
    """

    prompt: str
    expected: str
    leaked: bool = False
    where: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answered:
    """A model that answered.

    Attributes:
        name: as the report calls it.
        role: its place in the run.
        file: of its answers, in the folder.
    """

    name: str
    role: str
    file: str


@dataclass(frozen=True)
class Predictions:
    """A folder of answers.

    Attributes:
        folder: where they lie.
        models: in the report's order.
        confidential: whether a text of it must not be shown.
        labels: those that likelihoods were measured of; none where they were not.
    """

    folder: Path
    models: Sequence[Answered]
    confidential: bool = False
    labels: Sequence[str] = ()

    def questions(self) -> list[Question]:
        """Return the rows that were asked.

        Raises:
            InputError: they cannot be read.
        """
        return [Question(**line) for line in _read_lines(self.folder / QUESTIONS)]

    def answers(self, model: Answered) -> list[str]:
        """Return a model's answers, one a question.

        Raises:
            InputError: they cannot be read.
        """
        return [str(line["answer"]) for line in _read_lines(self.folder / model.file)]

    def label_log_probs(self, model: Answered) -> list[list[float] | None]:
        """Return for each row the log likelihood of each label, in nats; none where not measured.

        Raises:
            InputError: they cannot be read.
        """
        return [line.get("label_log_probs") for line in _read_lines(self.folder / model.file)]


class PredictionWriter:
    """Writes a folder of answers, a model at a time.

    Args:
        folder: made, if it is not there.
        questions: the rows, in the order of the answers.
        confidential: whether a text of it must not be shown.
        labels: those that likelihoods are measured of.
    """

    def __init__(
        self, folder: Path, questions: Iterable[Question], confidential: bool = False,
        labels: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._folder, self._confidential, self._labels = folder, confidential, list(labels)
        self._models: list[Answered] = []
        folder.mkdir(parents=True, exist_ok=True)
        _write_lines(folder / QUESTIONS, (asdict(one) for one in questions))

    def add(
        self, name: str, role: str, answers: Iterable[str],
        label_log_probs: Sequence[Sequence[float] | None] = (),
    ) -> None:  # fmt: skip
        """Write a model's answers.

        Args:
            name: as the report calls it.
            role: its place in the run.
            answers: one a question.
            label_log_probs: of the first rows, the log likelihood of each label, in nats.
        """
        file = self._find_name(name)
        _write_lines(self._folder / file, _as_lines(answers, label_log_probs))
        self._models.append(Answered(name, role, file))

    def add_prompted(self, prompted: Iterable[tuple[str, list[str]]]) -> None:
        """Write the answers of untouched models by each prompt; they are listed after the base.

        One that leaves the base's answers as they are, as without examples, is the base.

        Args:
            prompted: name and answers.
        """
        before = list(self._models)
        bases = [one for one in before if one.role == "base"]
        known = [Predictions(self._folder, before).answers(one) for one in bases]
        for name, answers in prompted:
            if answers not in known:
                self.add(name, PROMPTED, answers)
        others = [one for one in before if one not in bases]
        self._models = [*bases, *self._models[len(before) :], *others]

    def finish(self) -> Predictions:
        """Write the index, last, and return what is there now."""
        index = {
            "models": [asdict(one) for one in self._models],
            "confidential": self._confidential,
            "labels": self._labels,
        }
        write_atomic(self._folder / INDEX, json.dumps(index, indent=1, ensure_ascii=False))
        return Predictions(self._folder, self._models, self._confidential, self._labels)

    def _find_name(self, name: str) -> str:
        """Return a file name that no other model has."""
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", name)
        taken = {QUESTIONS, *(one.file for one in self._models)}
        number = 1
        while (file := f"{stem}.jsonl" if number == 1 else f"{stem}.{number}.jsonl") in taken:
            number += 1
        return file


def read_predictions(folder: Path) -> Predictions | None:
    """Return the prediction sets in a folder; none where there are none.

    Raises:
        InputError: its index cannot be read.
    """
    path = folder / INDEX
    if not path.is_file():
        return None
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        models = [Answered(**one) for one in index["models"]]
        return Predictions(folder, models, index["confidential"], index["labels"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from error


def write_prompt_text(row: Row) -> str:
    """Return what a row asks as people read it: its one question, or the turns with their roles.

    System messages are left out: they are much the same in all rows.
    """
    turns = [turn for turn in row.prompt if turn.role != "system"]
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{turn.role}: {turn.content or turn.more}" for turn in turns)


def _as_lines(
    answers: Iterable[str], label_log_probs: Sequence[Sequence[float] | None]
) -> Iterator[dict[str, Any]]:
    for number, answer in enumerate(answers):
        found = label_log_probs[number] if number < len(label_log_probs) else None
        yield {"answer": answer} if found is None else {"answer": answer, "label_log_probs": found}


def _write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            for line in file:
                yield json.loads(line)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"the answers cannot be read: {error}", where=str(path), hint="run bench again"
    )
