"""Every subject has result files of its own, called as they always were where none collides."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgetune.log import Log
from edgetune.measure import run
from edgetune.measure.subject import Subject, name_results
from edgetune.recipe import BenchSection


def make(name: str, role: str = "file") -> Subject:
    return Subject(name, role, Path(f"{name}.gguf"), "onnx", "int4", 1, "")


def stems(*names: str) -> list[str]:
    return [one.file_stem for one in name_results([make(name) for name in names])]


def test_result_files_are_called_as_they_were_where_no_two_collide() -> None:
    assert stems("a b", "teacher", "x-Q4_0.gguf", "größe") == [
        "a_b", "teacher", "x-Q4_0.gguf", "gr_e",
    ]  # fmt: skip


def test_names_that_differ_only_in_signs_have_result_files_of_their_own() -> None:
    found = stems("a b", "a_b", "a/b", "other name")
    assert len(set(found)) == 4
    assert found[1] == "a_b" and found[3] == "other_name"
    assert stems("a/b", "a_b", "a b") == [found[2], found[1], found[0]]
    twice = name_results(name_results([make("a b"), make("a_b")]))
    assert [one.file_stem for one in twice] == found[:2]


def test_answers_are_those_of_the_subject_that_gave_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(subject: Subject, job: dict[str, Any], *_: Any) -> None:
        found = {"job": job, "measurements": [], "answers": [[len(subject.path.name)]]}
        Path(job["result"]).write_text(json.dumps(found))
        if job["keep"]:
            Path(job["keep"]).write_text(subject.name)

    monkeypatch.setattr(run, "run_worker", answer)
    subjects = name_results([make("a  b", "teacher"), make("a_b", "merged"), make("a-b")])
    work: Any = SimpleNamespace(expected=[], to_json=dict)
    run.measure_subjects(subjects, work, BenchSection(), tmp_path, Log(quiet=True))
    given = [run.find_answers(one, BenchSection(), tmp_path)["answers"] for one in subjects]
    assert given == [[[9]], [[8]], [[8]]]
    kept = sorted(path.read_text() for path in tmp_path.glob("*.log_probs.npy"))
    assert kept == ["a  b", "a_b"]
