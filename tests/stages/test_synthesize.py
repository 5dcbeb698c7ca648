"""Written rows: by each kind of teacher, validated, with their origin, the same after a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgetune import api
from edgetune.artifact import Artifact
from edgetune.data.contract import encoder_of
from edgetune.data.dataset.make import load_splits
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.recipe import DataSection
from edgetune.runtimes.llamacpp import LlamaCpp
from edgetune.synthesize import teacher as teachers
from tests.model_files import make_gguf
from tests.synthesize.servers import completion, serve


def write_lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    """Files of train rows, validation rows and prompts without answers."""

    def pair(number: int) -> dict[str, str]:
        return {"prompt": f"light {number}", "completion": f"level {number}"}

    prompts = [{"prompt": f"light {n}"} for n in (*range(8, 20), 30, 31)]
    return {
        "data": write_lines(tmp_path / "train.jsonl", [pair(n) for n in range(10)]),
        "validation": write_lines(tmp_path / "validation.jsonl", [pair(n) for n in (30, 31)]),
        "prompts": write_lines(tmp_path / "prompts.jsonl", prompts),
    }


def level(body: dict[str, Any], _: dict[str, str]) -> tuple[int, Any]:
    """Answer `light N` with `level N`, and N = 13 wrongly."""
    number = body["messages"][-1]["content"].split()[-1]
    return 200, completion("no idea" if number == "13" else f"level {number}")


def make(address: str, data: dict[str, Any], out: Path, **settings: Any) -> Artifact:
    sets = {"endpoint": address, "endpoint_model": "m", "batch_size": 4}
    sets |= {"validators.similarity": 1.0, **settings}  # the prompts here are all near
    return api.synthesize(out=out, **{**data, **sets})


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_answers_are_written_validated_and_carry_their_origin(
    data: dict[str, str], tmp_path: Path
) -> None:
    with serve(level) as address:
        made = make(address, data, tmp_path / "out", **{"validators.regex": r"^level \d+$"})
    rows, rejected = read(made.path / "rows.jsonl"), read(made.path / "rejected.jsonl")
    # 8 and 9 are train rows, 30 and 31 validation rows: none of their prompts is asked.
    assert [row["messages"][0]["content"] for row in rows] == [
        f"light {n}" for n in range(10, 20) if n != 13
    ]
    assert rows[0]["messages"][1] == {"role": "assistant", "content": "level 10"}
    assert rows[0]["origin"] == {
        "endpoint": address, "model": "m", "task": "answers", "template": "own",
        "seed": f"{data['prompts']}:3", "number": 0,
    }  # fmt: skip
    assert [row["reason"] for row in rejected] == ["regex: not found"]
    facts = made.facts
    assert (facts["asked"], facts["accepted"], facts["rejected"]) == (10, 9, {"regex": 1})
    assert facts["calls"] == 10 and facts["prompt_tokens"] == 70 and made.kind == "rows"


def test_the_folder_is_a_source_of_train_rows(data: dict[str, str], tmp_path: Path) -> None:
    with serve(level) as address:
        made = make(address, data, tmp_path / "out")
    section = DataSection(train=(data["data"], str(made.path)), validation=data["validation"])
    train = load_splits(section, 0, Log(quiet=True)).train
    assert len(train) == 10 + 10
    assert train[10].answer == "level 10" and train[10].where.endswith("rows.jsonl:1")


def test_a_file_of_prompts_alone_is_answered(data: dict[str, str], tmp_path: Path) -> None:
    del data["validation"]
    data["data"] = data.pop("prompts")
    with serve(level) as address:
        made = make(address, data, tmp_path / "out")
    assert made.facts["asked"] == made.facts["seeds"] == 14


def test_a_killed_call_goes_on_from_its_batches_and_ends_with_the_same_bytes(
    data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    left = [6]

    def answer(body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
        asked.append(body["messages"][-1]["content"])
        left[0] -= 1
        return level(body, headers) if left[0] >= 0 else (400, b"killed")

    sets = {"concurrency": 1, "retries": 0}
    with serve(answer) as address:
        with pytest.raises(InputError, match="killed"):
            make(address, data, tmp_path / "a", **sets)
        left[0] = 100
        first = make(address, data, tmp_path / "a", **sets)
        assert asked.count("light 10") == 1  # of the first batch, which was finished
        whole = make(address, data, tmp_path / "b", **sets)
    for name in ("rows.jsonl", "rejected.jsonl"):
        assert (first.path / name).read_bytes() == (whole.path / name).read_bytes()
    assert first.facts["calls"] == whole.facts["calls"]


def test_duplicates_are_found_among_what_an_earlier_process_wrote(
    data: dict[str, str], tmp_path: Path
) -> None:
    left = [4]

    def answer(body: dict[str, Any], _: dict[str, str]) -> tuple[int, Any]:
        left[0] -= 1
        return (200, completion("one new prompt")) if left[0] >= 0 else (400, b"killed")

    del data["prompts"]
    sets = {"task": "paraphrases", "concurrency": 1}
    with serve(answer) as address:
        with pytest.raises(InputError):
            make(address, data, tmp_path / "a", **sets)
        left[0] = 100
        made = make(address, data, tmp_path / "a", **sets)
    assert made.facts["accepted"] == 1 and made.facts["rejected"] == {"duplicate": 9}


def test_paraphrases_keep_the_answer_and_leave_out_held_out_prompts(
    data: dict[str, str], tmp_path: Path
) -> None:
    def answer(body: dict[str, Any], _: dict[str, str]) -> tuple[int, Any]:
        asked = body["messages"][-1]["content"]
        assert "Rewrite the following request" in asked
        number = int(asked.split()[-1])
        return 200, completion("Light  30" if number == 2 else f'1. "please light {number}"')

    del data["prompts"]
    with serve(answer) as address:
        made = make(address, data, tmp_path / "out", task="paraphrases")
    rows = read(made.path / "rows.jsonl")
    assert rows[3]["messages"] == [
        {"role": "user", "content": "please light 4"},
        {"role": "assistant", "content": "level 4"},
    ]
    assert made.facts["rejected"] == {"leakage": 1}


def test_instructions_are_new_prompts_with_answers(data: dict[str, str], tmp_path: Path) -> None:
    shown: list[str] = []

    def answer(body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
        asked = body["messages"][-1]["content"]
        if not asked.startswith("Here are"):
            assert body["temperature"] == 0
            return level(body, headers)
        shown.append(asked)
        assert body["temperature"] == 0.8
        return 200, completion(f"light {40 + len(shown)}")

    del data["prompts"]
    with serve(answer) as address:
        made = make(
            address, data, tmp_path / "out", task="instructions", count=3, concurrency=1,
            examples=3, price_per_million_tokens=1000.0,
        )  # fmt: skip
    rows = read(made.path / "rows.jsonl")
    said = [[turn["content"] for turn in row["messages"]] for row in rows]
    assert said == [[f"light {n}", f"level {n}"] for n in (41, 42, 43)]
    assert all(text.count("Request: light") == 3 for text in shown) and len(set(shown)) == 3
    assert made.facts["cost"] == pytest.approx(6 * 10 * 1000 / 1e6)


def test_labels_are_those_of_train_rows(data: dict[str, str], tmp_path: Path) -> None:
    def answer(body: dict[str, Any], _: dict[str, str]) -> tuple[int, Any]:
        number = int(body["messages"][-1]["content"].split()[-1])
        return 200, completion(f"level {number % 10}" if number != 14 else "level 14")

    with serve(answer) as address:
        made = make(address, data, tmp_path / "out", **{"validators.labels": True})
    assert made.facts["accepted"] == 9 and made.facts["rejected"] == {"labels": 1}


def test_preferences_reject_a_wrong_sample(data: dict[str, str], tmp_path: Path) -> None:
    def answer(body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
        number = int(body["messages"][-1]["content"].split()[-1])
        return level(body, headers) if number % 2 else (200, completion("level 99"))

    del data["prompts"]
    with serve(answer) as address:
        made = make(address, data, tmp_path / "out", task="preferences")
    rows = read(made.path / "rows.jsonl")
    assert [row["prompt"][0]["content"] for row in rows] == [f"light {n}" for n in (0, 2, 4, 6, 8)]
    assert rows[1]["chosen"] == [{"role": "assistant", "content": "level 2"}]
    assert rows[1]["rejected"] == [{"role": "assistant", "content": "level 99"}]
    assert made.facts["rejected"] == {"both answers are right": 5}


def test_agreement_and_round_trip_ask_again(data: dict[str, str], tmp_path: Path) -> None:
    def answer(body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
        number = int(body["messages"][-1]["content"].split()[-1])
        if number == 12 and body["temperature"]:  # its samples are of two minds
            return 200, completion(f"level {body['seed'] % 2}")
        return level(body, headers)

    with serve(answer) as address:
        made = make(
            address, data, tmp_path / "out",
            **{"validators.agreement": 0.8, "validators.samples": 3, "validators.round_trip": True},
        )  # fmt: skip
    assert made.facts["rejected"] == {"agreement": 1}
    assert made.facts["calls"] == 10 + 10 + 30


def test_max_requests_ends_with_what_is_there(data: dict[str, str], tmp_path: Path) -> None:
    with serve(level) as address:
        made = make(address, data, tmp_path / "out", max_requests=6, concurrency=1)
    assert made.facts["accepted"] == 6 and made.facts["calls"] == 6
    assert made.facts["ended_early"] == "max_requests reached"
    assert made.facts["asked"] == 8


def test_cost_and_time_are_told_after_the_first_batch(
    data: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(level) as address:
        make(address, data, tmp_path / "out", price_per_million_tokens=2e4, log=Log())
    said = capsys.readouterr().err
    assert "answers: 10 rows of 10 seeds, 10 requests to http" in said
    assert "by the first batch: 10 requests, 100 tokens, 0:0" in said and "cost 2.00" in said


def test_the_key_is_in_no_file(
    data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-very-secret-1234")
    log = Log(tmp_path / "log.jsonl", quiet=True)
    with serve(level) as address:
        make(address, data, tmp_path / "out", key_env="TEST_KEY", log=log)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 6
    assert not [path for path in files if b"very-secret" in path.read_bytes()]


@pytest.fixture
def _early_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a third of the tokens end an answer: the random model hardly ever ends one."""
    ends = tuple(range(2, 400, 3))

    def make_encoder(*arguments: Any) -> Any:
        return replace(encoder_of(*arguments), stop_ids=ends)

    monkeypatch.setattr(teachers, "encoder_of", make_encoder)
    monkeypatch.setattr(LlamaCpp, "stop_ids", lambda _: list(ends))


@pytest.mark.usefixtures("_early_ends")
@pytest.mark.parametrize("kind", ["folder", "gguf"])
def test_models_and_files_answer_and_a_seed_decides_what(
    kind: str, tiny_model: Path, data: dict[str, str], tmp_path: Path
) -> None:
    teacher = str(tiny_model if kind == "folder" else make_gguf(tiny_model))
    sets = {**data, "teacher": teacher, "temperature": 1.0, "max_new_tokens": 64, "count": 10}
    sets["device"] = "cpu"
    made = [
        api.synthesize(out=tmp_path / f"{n}", seed=seed, **sets) for n, seed in enumerate((1, 1, 2))
    ]
    rows = [(one.path / "rows.jsonl").read_bytes() for one in made]
    assert rows[0] == rows[1] != rows[2]
    origin = json.loads(rows[0].splitlines()[0])["origin"]
    assert origin["teacher"] == Path(teacher).name and len(origin["sha256"]) == 32


@pytest.mark.usefixtures("_early_ends")
def test_likelihood_ranks_two_samples(
    tiny_model: Path, data: dict[str, str], tmp_path: Path
) -> None:
    made = api.synthesize(
        out=tmp_path / "out", **data, teacher=str(tiny_model), task="preferences",
        rank="likelihood", max_new_tokens=64, count=10, device="cpu", temperature=1.5,
    )  # fmt: skip
    row = read(made.path / "rows.jsonl")[0]
    assert row["chosen"] != row["rejected"]


def test_failures_lead_to_the_seeds_nearest_to_them(
    tiny_model: Path, data: dict[str, str], tmp_path: Path
) -> None:
    with serve(level) as address:
        made = make(
            address, data, tmp_path / "out", count=3, failures_of=str(tiny_model), device="cpu",
            max_new_tokens=8, **{"from": "failures"},
        )  # fmt: skip
    rows = read(made.path / "rows.jsonl")
    assert made.facts["failures"] == made.facts["validation_rows"] == 2
    asked = [row["messages"][0]["content"] for row in rows]
    assert len(asked) == 3 and not {"light 30", "light 31"} & {*asked}


@pytest.mark.parametrize("split", ["train", "validation"])
def test_confidential_rows_go_to_no_endpoint(
    data: dict[str, str], tmp_path: Path, split: str
) -> None:
    name = "data" if split == "train" else split
    secret = {"path": data[name], "confidential": True}
    asked: list[Any] = []

    def answer(body: dict[str, Any], _: dict[str, str]) -> tuple[int, Any]:
        asked.append(body)
        return 200, completion("level 1")

    with serve(answer) as address, pytest.raises(InputError, match="are confidential"):
        make(address, {**data, name: secret}, tmp_path / "out")
    assert not asked


def test_no_accepted_row_is_an_error_that_names_the_reasons(
    data: dict[str, str], tmp_path: Path
) -> None:
    refused = pytest.raises(InputError, match=r"no row was accepted \(regex 10")
    with serve(level) as address, refused:
        make(address, data, tmp_path / "out", **{"validators.regex": "never"})


def test_a_broken_template_or_expression_is_refused_before_any_request(
    data: dict[str, str], tmp_path: Path
) -> None:
    with serve(lambda *_: (400, b"asked")) as address:
        for key, value, words in (
            ("template.ask", "{{ prompt", "not a template"),
            ("validators.regex", "(", "not a regular expression"),
            ("validators.json_schema", str(tmp_path / "none.json"), "no readable JSON schema"),
        ):
            with pytest.raises(InputError, match=words):
                make(address, data, tmp_path / "out", **{key: value})


def test_what_rows_hold_is_never_read_as_a_template(data: dict[str, str], tmp_path: Path) -> None:
    prompt = "{{ 7 * 7 }} {% raw %}"
    write_lines(Path(data["prompts"]), [{"prompt": prompt}])
    asked: list[str] = []

    def answer(body: dict[str, Any], _: dict[str, str]) -> tuple[int, Any]:
        asked.append(body["messages"][-1]["content"])
        return 200, completion("fine")

    with serve(answer) as address:
        make(address, data, tmp_path / "out", **{"template.ask": "Say: {{ prompt }}"})
    assert asked == [f"Say: {prompt}"]


@pytest.mark.slow
def test_a_sigkill_between_requests_changes_no_byte(data: dict[str, str], tmp_path: Path) -> None:
    children: list[subprocess.Popen[bytes]] = []
    asked: list[str] = []

    def answer(body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
        asked.append(body["messages"][-1]["content"])
        if children and len(asked) == 7:  # in the second batch
            children[0].kill()
        return level(body, headers)

    with serve(answer) as address:
        whole = make(address, data, tmp_path / "whole")
        asked.clear()
        command = [
            sys.executable, "-m", "edgetune", "synthesize", "--endpoint", address,
            "--endpoint-model", "m", "--data", data["data"], "--validation", data["validation"],
            "--prompts", data["prompts"], "--out", str(tmp_path / "out"),
            "--set", "synthesize.batch_size=4", "--set", "synthesize.validators.similarity=1.0",
        ]  # fmt: skip
        children.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        assert children[0].wait() == -signal.SIGKILL
        assert not (tmp_path / "out").exists()
        resumed = make(address, data, tmp_path / "out")
    assert asked.count("light 10") == 1
    for name in ("rows.jsonl", "rejected.jsonl"):
        assert (resumed.path / name).read_bytes() == (whole.path / name).read_bytes()
