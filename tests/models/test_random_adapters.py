"""Whatever LoRA PEFT can save is folded as PEFT computes it, or refused by name."""

from __future__ import annotations

import collections
import shutil
import warnings
from functools import cache
from pathlib import Path

import pytest
import torch

from edgetune.errors import EdgetuneError
from edgetune.models.load import load_model
from edgetune.models.merge import write_merged
from edgetune.models.ref import ModelRef
from tests.random_adapters import FAMILIES, RandomAdapter, make_base, make_random

IDS = torch.tensor([[3, 7, 20, 41, 99, 250, 7, 3, 311, 12]])


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {
        (family, tied): make_base(folder / f"{family}-{tied}", family, tied)
        for family in FAMILIES
        for tied in (False, True)
    }


@torch.no_grad()
def live_logits(made: RandomAdapter) -> torch.Tensor:
    """What PEFT's own model says, loaded without any code of ours."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(made.base, dtype=torch.float32)
        model = PeftModel.from_pretrained(model, str(made.folder)).eval()
    return model(input_ids=IDS).logits


@torch.no_grad()
def our_logits(ref: ModelRef) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_model(ref)(input_ids=IDS).logits


@cache
def base_logits(base: Path) -> torch.Tensor:
    return our_logits(ModelRef(base))


def try_seed(seed: int, bases: dict[tuple[str, bool], Path], scratch: Path) -> str:
    """Return ``merged``, ``refused: …`` or ``not PEFT's: …``; fail where the logits differ."""
    try:
        made = make_random(seed, bases, scratch / "adapter")
    except (ValueError, RuntimeError, TypeError) as error:
        return f"not PEFT's: {error}"
    try:
        write_merged(made.base, [made.folder], scratch / "merged", "float32")
        ours = our_logits(ModelRef(made.base, made.folder))
    except EdgetuneError as error:
        assert error.exit_code == 2 and error.where
        return f"refused: {error.what}"
    wanted = live_logits(made)
    off = float((our_logits(ModelRef(scratch / "merged")) - wanted).abs().max())
    assert off < 1e-4, f"seed {seed}: {off} off, {made.family}, tied {made.tied}, {made.config}"
    reference = float((ours - wanted).abs().max())
    assert reference < 1e-4, f"seed {seed}: the reference is {reference} off, {made.config}"
    moved = float((base_logits(made.base) - wanted).abs().max())
    assert moved > 1e-3, f"seed {seed}: the adapter does nothing, {made.config}"
    return "merged"


@pytest.mark.slow
def test_a_hundred_random_adapters(bases: dict[tuple[str, bool], Path], tmp_path: Path) -> None:
    found: collections.Counter[str] = collections.Counter()
    for seed in range(100):
        found[try_seed(seed, bases, tmp_path / "one").partition(":")[0]] += 1
        shutil.rmtree(tmp_path / "one", ignore_errors=True)
    assert found["merged"] >= 75 and found["refused"] <= 24, found
