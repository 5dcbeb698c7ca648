"""Steps on preferences from the command line, and rows that they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgetune.artifact import load_artifact
from edgetune.cli import cli
from edgetune.data.rows import Message, Row
from edgetune.errors import InputError
from edgetune.train.preference.scorer import load_reward_model
from tests.train.preference.preferences import write_pair_rows, write_thumb_rows

SHORT = ("--method", "lora", "--set", "tune.max_steps=12", "--set", "tune.learning_rate=5e-3",
         "--set", "data.max_length=128")  # fmt: skip


def tune(model: Path, rows: Path, out: Path, objective: str, *more: str) -> Result:
    arguments = ["tune", "--model", model, "--data", rows, "--out", out, "--objective", objective]
    return CliRunner().invoke(cli, [*map(str, arguments), *SHORT, *more])


def test_dpo_runs_from_the_command_line(tiny_model: Path, tmp_path: Path) -> None:
    rows = write_pair_rows(tmp_path / "pairs.jsonl", 80)
    done = tune(tiny_model, rows, tmp_path / "out", "dpo", "--set", "tune.dpo.loss_type=ipo")
    assert done.exit_code == 0, done.output
    facts = load_artifact(tmp_path / "out").facts
    assert facts["objective"] == "dpo" and facts["figures"]["reward_margin"] > 0
    curve = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").open()]
    assert "rewards/accuracies" in curve[0]
    assert list(tmp_path.glob("reference-log-probs/*/*.safetensors"))


def test_a_reward_model_scores_what_it_learnt(tiny_model: Path, tmp_path: Path) -> None:
    rows = write_pair_rows(tmp_path / "pairs.jsonl", 80)
    done = tune(tiny_model, rows, tmp_path / "out", "reward")
    assert done.exit_code == 0, done.output
    scorer = load_reward_model(tmp_path / "out")
    asked = Message("user", "light hall 3")
    answers = ("light the hall", "no garage 3")
    better, worse = scorer.score(
        [Row((asked, Message("assistant", text)), None, "test") for text in answers]
    )
    assert better > worse
    merged = CliRunner().invoke(cli, [
        "merge", "--model", str(tiny_model), "--data", str(rows), "--adapter",
        str(tmp_path / "out"), "--out", str(tmp_path / "merged"),
    ])  # fmt: skip
    assert isinstance(merged.exception, InputError) and "scores texts" in str(merged.exception)


@pytest.mark.parametrize(
    ("objective", "thumbs", "said"),
    [("dpo", True, "kto"), ("reward", True, "kto"), ("kto", False, "dpo, reward")],
)
def test_rows_of_the_wrong_shape_say_what_they_are_for(
    objective: str, thumbs: bool, said: str, tiny_model: Path, tmp_path: Path
) -> None:
    write = write_thumb_rows if thumbs else write_pair_rows
    done = tune(tiny_model, write(tmp_path / "rows.jsonl"), tmp_path / "out", objective)
    assert isinstance(done.exception, InputError)
    assert f"which is for {said}" in str(done.exception)


def test_a_language_model_is_no_reward_model(tiny_model: Path, tmp_path: Path) -> None:
    rows = write_pair_rows(tmp_path / "pairs.jsonl", 40)
    assert tune(tiny_model, rows, tmp_path / "out", "orpo").exit_code == 0
    with pytest.raises(InputError, match="no reward model"):
        load_reward_model(tmp_path / "out")
