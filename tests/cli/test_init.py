"""``edgetune init``: a recipe proposed for a model and rows passes a dry run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from edgetune.cli import cli
from edgetune.errors import InputError
from edgetune.plan import fit
from edgetune.plan.fit import Change

PAIR = {"prompt": "light hall", "chosen": "on", "rejected": "it is dark"}
THUMBS = [{"prompt": f"light hall {n}", "completion": "on", "label": n % 4 == 0}
          for n in range(40)]  # fmt: skip


def init(folder: Path, *arguments: object) -> dict[str, Any]:
    path = folder / "mine.yaml"
    result = CliRunner().invoke(cli, ["init", str(path), *map(str, arguments)])
    assert result.exit_code == 0, (result.output, result.exception)
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def dry_run(folder: Path) -> list[str]:
    command = ["run", str(folder / "mine.yaml"), "--dry-run", "--json"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, (result.output, result.exception)
    plan = json.loads(result.output.splitlines()[-1])["plan"]
    return [line.partition(":")[0] for line in plan]


@pytest.mark.parametrize("preset", ["fast", "balanced", "best"])
def test_a_proposal_passes_a_dry_run(
    preset: str, tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    recipe = init(tmp_path, "--model", tiny_model, "--data", device_rows, "--preset", preset)
    assert dry_run(tmp_path) == ["prepare", "tune", "merge", "quantize", "export", "bench"]
    assert recipe["tune"]["objective"] == "sft"
    assert recipe["tune"]["method"] == "lora"
    assert recipe["data"]["max_length"] < 512
    lines = (tmp_path / "mine.yaml").read_text().splitlines()
    tune = lines[lines.index("tune:") + 1 : lines.index("merge: {}")]
    assert all(" # " in line for line in tune)


@pytest.mark.parametrize(
    ("rows", "objective"),
    [
        ([{**PAIR, "prompt": f"light {n}"} for n in range(40)], "dpo"),
        (THUMBS, "kto"),
        ([{"text": f"The hall has {n} lights."} for n in range(40)], "text"),
        ([{"text": f"light {n}", "label": ("on", "off")[n % 2]} for n in range(40)], "sft"),
    ],
)
def test_the_objective_follows_the_shape_of_the_rows(
    rows: list[dict[str, Any]], objective: str, tiny_model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = init(tmp_path, "--model", tiny_model, "--data", file)
    assert recipe["tune"]["objective"] == objective
    assert "tune" in dry_run(tmp_path)
    if objective == "kto":  # rows that were not liked train too
        assert "# 3" in (tmp_path / "mine.yaml").read_text().split("train: ")[1].splitlines()[0]


def test_without_a_model_or_rows_here_it_is_a_starter(device_rows: Path, tmp_path: Path) -> None:
    recipe = init(tmp_path, "--model", "Qwen/Qwen3-0.6B", "--data", device_rows)
    assert recipe["tune"]["method"] == "qlora" and recipe["data"]["max_length"] == 1024
    (tmp_path / "mine.yaml").unlink()
    assert init(tmp_path)["tune"]["rank"] == 16


def test_what_cannot_be_proposed_is_said(
    tiny_model: Path, tmp_path: Path, device_rows: Path
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "light"}\n')

    def refuse(*arguments: object) -> str:
        path = tmp_path / "other.yaml"
        result = CliRunner().invoke(cli, ["init", str(path), *map(str, arguments)])
        assert isinstance(result.exception, InputError) and not path.exists()
        return str(result.exception)

    assert "prompts without answers" in refuse("--model", tiny_model, "--data", prompts)
    assert "--preset" in refuse("--preset", "best")
    assert "not both here" in refuse(
        "--preset", "best", "--model", "Qwen/Qwen3-0.6B", "--data", device_rows
    )


def test_what_does_not_fit_the_memory_is_proposed_smaller(
    tiny_model: Path, device_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "PLANNED_BYTES", 0)
    monkeypatch.setattr(fit, "make_job", lambda recipe, folder: recipe)
    changes = [Change("tune.batch_size", 4, 2), Change("tune.gradient_accumulation", 1, 2)]
    monkeypatch.setattr(fit, "fit_job", lambda recipe: (recipe, changes))
    recipe = init(tmp_path, "--model", tiny_model, "--data", device_rows)
    assert (recipe["tune"]["batch_size"], recipe["tune"]["gradient_accumulation"]) == (2, 2)
    assert "4 would not fit the memory" in (tmp_path / "mine.yaml").read_text()


def test_a_row_beyond_the_proposed_length_does_not_stop_the_run(
    tiny_model: Path, tmp_path: Path
) -> None:
    rows = [{"prompt": f"light {n}", "completion": "on"} for n in range(400)]
    rows[7]["prompt"] = "light " * 300
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = init(tmp_path, "--model", tiny_model, "--data", file)
    assert recipe["data"]["max_length"] < 300
    command = ["prepare", "--recipe", tmp_path / "mine.yaml", "--out", tmp_path / "rows", "--quiet"]
    result = CliRunner().invoke(cli, list(map(str, command)))
    assert result.exit_code == 0, (result.output, result.exception)


@pytest.mark.assets
def test_a_base_that_never_had_an_underscore_gets_a_head_to_learn_it(
    assets: Path, tmp_path: Path
) -> None:
    model = assets / "models" / "stories260K"
    intents = init(tmp_path, "--model", model, "--data", assets / "data/banking77/train.csv")
    assert intents["tune"]["modules_to_save"] == ["embed_tokens", "lm_head"]
    assert "tune" in dry_run(tmp_path)
    (tmp_path / "mine.yaml").unlink()
    words = init(tmp_path, "--model", model, "--data", assets / "data/snips/train.jsonl")
    assert "modules_to_save" not in words["tune"]
