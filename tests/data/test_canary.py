"""Planted secrets: the same every time, in train alone, and found by their exposure."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from edgetune.data.build_encoder import make_encoder
from edgetune.data.canary import CONTROLS, make_canaries
from edgetune.data.dataset.make import make_dataset
from edgetune.data.dataset.settings import Settings
from edgetune.log import Log
from edgetune.measure.memorization import expected_exposure, measure_exposure
from edgetune.measure.quality import score_rows
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.pipeline import run_alone
from edgetune.recipe import DataSection
from edgetune.recipe.load import check_tree
from edgetune.runtimes import open_runtime

QUIET = Log(quiet=True)


def write_rows(path: Path, shape: str) -> str:
    letters = random.Random(0)
    texts = ["".join(letters.choices("abcdefgh", k=20)) for _ in range(30)]
    rows = [{"prompt": text, "completion": "yes"} for text in texts]
    if shape == "text":
        rows = [{"text": text} for text in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("shape", ["text", "chat"])
def test_secrets_are_planted_in_train_alone(shape: str, tmp_path: Path) -> None:
    train = write_rows(tmp_path / "t.jsonl", shape)
    clean = {"near_duplicates": "fix", "leakage": "fix", "max_per_label": 40}
    section = DataSection.model_validate({"train": train, "canary": 3, "clean": clean, "limit": 5})
    splits = make_dataset(Settings(section, 7), tmp_path / "d", tmp_path / "s", QUIET)
    planted = [rows[0] for rows in make_canaries(3, 7, shape == "text")]
    assert list(splits.train)[-3:] == planted and len(splits.train) == 8
    assert not {row.where for row in splits.validation} & {row.where for row in planted}


def test_controls_differ_in_the_secret_alone() -> None:
    canaries = make_canaries(4, 0, False)
    assert canaries == make_canaries(4, 0, False) != make_canaries(4, 1, False)
    for rows in canaries:
        assert len({row.prompt for row in rows}) == 1
        assert len({row.answer for row in rows}) == 1 + CONTROLS


def test_exposure_is_the_rank_in_bits() -> None:
    assert measure_exposure([[1.0, 2, 3, 4], [1.0, 2, 3, 4]]).value == 2.0  # first of four
    assert measure_exposure([[9.0, 2, 3, 4]]).value == 0.0
    assert measure_exposure([[3.0, 2, 4, 4], [2.0, 1, 4, 4]]).value == 1.0
    ranks = [[float(rank), *(n for n in range(4) if n != rank)] for rank in range(4)]
    assert measure_exposure(ranks).value == pytest.approx(expected_exposure(4))
    estimate = measure_exposure([[1.0, 2, 3, 4], [9.0, 2, 3, 4], [1.0, 2, 3, 4]])
    assert estimate.ci95 is not None and estimate.ci95[0] < estimate.value < estimate.ci95[1]


def test_a_secret_seen_in_training_is_found_and_another_is_not(
    tiny_model: Path, tmp_path: Path
) -> None:
    train = write_rows(tmp_path / "t.jsonl", "chat")
    tree = {
        "seed": 3, "model": {"path": str(tiny_model)},
        "data": {"train": train, "canary": 8, "max_length": 64},
        "tune": {"method": "full", "max_steps": 150, "batch_size": 8, "packing": False,
                 "learning_rate": 5e-3},
    }  # fmt: skip
    tuned = run_alone("tune", check_tree(tree, "test"), {}, tmp_path / "tuned", QUIET)
    section = DataSection(train=train)
    encoder = make_encoder(load_tokenizer(tiny_model), section, None)

    def expose(model: Path, seed: int) -> tuple[float, float]:
        rows = [encoder.encode(row) for some in make_canaries(8, seed, False) for row in some]
        nll = score_rows(open_runtime(model, threads=1), rows).nll_sums
        found = measure_exposure([nll[at : at + 16] for at in range(0, len(nll), 16)])
        assert found.ci95 is not None
        return found.ci95

    chance = expected_exposure(16)
    seen = expose(tuned.path / "model", 3)
    assert seen[0] > chance + 1
    for low, high in (expose(tiny_model, 3), expose(tuned.path / "model", 4)):
        assert low < chance < high
