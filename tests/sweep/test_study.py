"""A study keeps each trial once: taken, put back, given up with its process, told in the end."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.recipe.search import SearchSection
from edgetune.sweep import owner, storage, study
from edgetune.sweep.study import Study, Taken
from edgetune.sweep.trials import Trial, find_best, find_pareto

from .conftest import Server

SEARCH = SearchSection.model_validate(
    {"tune.rank": [2, 4], "tune.learning_rate": {"log": [0.1, 1]}}
)
OWN = {"tune.rank": 4, "tune.learning_rate": 0.5}


def open_study(folder: Path, search: SearchSection = SEARCH, url: str | None = None) -> Study:
    return Study(search, url, "name", folder, Log(quiet=True))


def take(one: Study, total: int = 20, own: Any = OWN) -> Taken:
    taken = one.take(total, own, 0)
    assert taken is not None
    return taken


def finish(taken: Taken, value: float = 0.5) -> None:
    taken.complete([value], {}, {"seconds": 1})


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An owner whose process has ended."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    described = {**owner.describe_process(), "pid": process.pid}
    described["start"] = owner.psutil.Process(process.pid).create_time()
    assert not owner.is_gone(described, 0.0)
    process.kill()
    process.wait()
    return described


def test_the_first_trial_has_the_recipes_own_values(tmp_path: Path) -> None:
    assert take(open_study(tmp_path)).values == OWN


def test_own_values_outside_the_search_are_tried_too(tmp_path: Path) -> None:
    own = {"tune.rank": 16, "tune.learning_rate": 0.5}
    one = open_study(tmp_path)
    assert take(one, own=own).values == own
    assert take(one, own=own).values["tune.rank"] in (2, 4)


def test_the_same_trials_give_the_same_next_one(tmp_path: Path) -> None:
    values = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        one = open_study(tmp_path / name)
        for _ in range(4):
            taken = take(one)
            finish(taken, taken.values["tune.learning_rate"])
            values.append(taken.values)
    assert values[:4] == values[4:]


@pytest.mark.parametrize("url", [None, "sqlite"])
def test_a_dead_process_gives_its_trial_up_with_its_values(
    tmp_path: Path, dead: dict[str, Any], monkeypatch: pytest.MonkeyPatch, url: str | None
) -> None:
    url = url and f"sqlite:///{tmp_path}/study.db"
    one = open_study(tmp_path, url=url)
    finish(take(one))
    with monkeypatch.context() as patch:
        patch.setattr(study, "describe_process", lambda: dead)
        lost = take(one)
    again, other = take(open_study(tmp_path, url=url)), take(one)
    assert (again.number, again.values) == (1, lost.values)
    assert other.number == 2
    finish(again)
    finish(lost)  # it lived after all: what was told first stays
    assert [t.state for t in one.trials()] == ["complete", "complete", "running"]


def test_a_trial_that_kills_its_process_fails_in_the_end(
    tmp_path: Path, dead: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "describe_process", lambda: dead)
    one = open_study(tmp_path)
    assert [take(one).number for _ in range(study.MOST_ATTEMPTS)] == [0] * study.MOST_ATTEMPTS
    assert take(one).number == 1
    first = one.trials()[0]
    assert first.state == "failed" and "killed" in first.facts["why"]


def test_a_stop_is_no_attempt(tmp_path: Path) -> None:
    one = open_study(tmp_path)
    for _ in range(2 * study.MOST_ATTEMPTS):
        taken = take(one)
        assert taken.number == 0
        taken.put_back()


def test_another_machine_is_given_up_without_a_sign_of_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = {**owner.describe_process(), "host": "elsewhere"}
    now = owner.time.time()
    assert not owner.is_gone(other, now - owner.STALE_SECONDS / 2)
    assert owner.is_gone(other, now - 2 * owner.STALE_SECONDS)


def test_no_more_trials_than_asked_for(tmp_path: Path) -> None:
    one = open_study(tmp_path)
    taken = [take(one, total=2), take(one, total=2)]
    assert one.take(2, OWN, 0) is None
    for each in taken:
        finish(each)
    assert one.take(2, OWN, 0) is None
    assert take(one, total=3).number == 2  # a study can go on


def test_a_study_of_another_recipe_is_refused(tmp_path: Path) -> None:
    open_study(tmp_path).bind({"recipe": {"tune": {"rank": 4, "epochs": 1}}})
    open_study(tmp_path).bind({"recipe": {"tune": {"rank": 4, "epochs": 1}}})
    with pytest.raises(InputError, match=r"another recipe: recipe.tune.epochs was 1 and is 2"):
        open_study(tmp_path).bind({"recipe": {"tune": {"rank": 4, "epochs": 2}}})


def test_a_study_of_other_objectives_is_refused(tmp_path: Path) -> None:
    open_study(tmp_path).bind({"search": {"objectives": ["score"]}})
    two = SearchSection.model_validate({"tune.rank": [2, 4], "objectives": ["score", "bytes"]})
    with pytest.raises(InputError, match="another recipe"):
        open_study(tmp_path, two).bind({"search": {"objectives": ["score", "bytes"]}})


def test_a_database_that_is_down_is_told_before_the_work(tmp_path: Path) -> None:
    url = f"postgresql://me:secret@/study?host={tmp_path}"
    with pytest.raises(InputError, match="cannot be reached") as caught:
        open_study(tmp_path, url=url)
    assert "secret" not in str(caught.value)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    for url in ("postgres://me@host/db", "study.db", "redis://host"):
        with pytest.raises(InputError, match="is no study database"):
            open_study(tmp_path, url=url)


def test_a_result_waits_for_a_database_that_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "FIRST_PAUSE", 0.01)
    one = open_study(tmp_path)
    taken = take(one)
    answers, tell = iter([False, False, True]), one.tell

    def fail_twice(*arguments: Any) -> None:
        if not next(answers):
            raise OperationalError("select", {}, Exception("the server went away"))
        tell(*arguments)

    monkeypatch.setattr(one, "tell", fail_twice)
    finish(taken, 0.7)
    assert [(t.state, t.objectives) for t in one.trials()] == [("complete", {"score": 0.7})]
    monkeypatch.setattr(storage, "PATIENCE", 0.0)
    monkeypatch.setattr(one, "tell", lambda *_: (_ for _ in ()).throw(OSError("no answer")))
    with pytest.raises(InputError, match="the same command reports it"):
        finish(take(one))
    assert one.trials()[1].state == "running"


@pytest.mark.slow
def test_a_result_outlives_a_server_that_goes_and_comes_back(
    tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "FIRST_PAUSE", 0.1)
    one = open_study(tmp_path, url=postgres.url)
    taken = take(one)
    postgres.stop()
    taken.beat()
    assert not taken.should_prune(1024, 1.0)  # training goes on meanwhile
    back = threading.Timer(2.0, postgres.start)
    back.start()
    finish(taken, 0.7)
    back.join()
    assert [(t.state, t.objectives) for t in one.trials()] == [("complete", {"score": 0.7})]
    assert take(one).number == 1


def test_trials_behind_the_others_are_pruned_at_equal_tokens(tmp_path: Path) -> None:
    one = open_study(tmp_path)
    for loss in (1.0, 1.1, 1.2):
        taken = take(one)
        assert not taken.should_prune(1024, loss)
        finish(taken)
    taken = take(one)
    assert not taken.should_prune(1024, 1.05)
    assert not taken.should_prune(2048, 9.0)  # nobody else was there
    assert take(one).should_prune(1024, 1.5)


def test_the_best_keeps_the_constraints_and_the_front_is_unbeaten() -> None:
    def trial(number: int, score: float, size: float, is_feasible: bool = True) -> Trial:
        measures = {"score": score, "bytes": size}
        return Trial(number, "complete", {}, measures, is_feasible)

    trials = [trial(0, 0.8, 5), trial(1, 0.9, 9), trial(2, 0.99, 20, False), trial(3, 0.7, 6)]
    best = find_best(trials, "score")
    assert best is not None and best.number == 1
    assert find_pareto(trials, ["score", "bytes"]) == [0, 1]


def test_importance_finds_the_key_that_decides(tmp_path: Path) -> None:
    one = open_study(tmp_path)
    for _ in range(20):
        taken = take(one, total=30)
        finish(taken, taken.values["tune.learning_rate"])
    found = one.importance()
    assert found["tune.learning_rate"] > found["tune.rank"]
