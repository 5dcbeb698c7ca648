"""What does not fit is refused or made to fit without a change of what is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import MixtralConfig

from edgetune.errors import Unsupported
from edgetune.log import Log
from edgetune.plan import make_job, tell_plan
from edgetune.plan.estimate import Job, estimate_stages
from edgetune.plan.fit import find_shortages, fit_recipe, propose
from edgetune.plan.machine import USABLE
from edgetune.recipe import Recipe


@pytest.fixture
def job(tiny_model: Path, device_rows: Path, tmp_path: Path) -> Job:
    """A tuning of a tiny model with a micro-batch of 64 sequences."""
    recipe = Recipe.model_validate(
        {
            "name": "plan",
            "model": {"path": str(tiny_model), "device": "cpu"},
            "data": {"train": str(device_rows), "max_length": 128},
            "tune": {"batch_size": 64, "gradient_accumulation": 2, "packing": False},
            "merge": {},
            "quantize": {"gguf": ["Q8_0"], "onnx": ["int4"]},
            "export": {},
            "bench": {},
        }
    )
    made: Job = make_job(recipe, tmp_path / "run")
    return made


def with_ram(job: Job, size: float) -> Job:
    return replace(job, machine=replace(job.machine, ram_bytes=int(size / USABLE)))


def test_every_stage_of_the_recipe_has_an_estimate(job: Job) -> None:
    estimates = estimate_stages(job)
    assert [one.stage for one in estimates] == ["tune", "merge", "quantize", "export", "bench"]
    assert all(one.ram_bytes > 0 and one.seconds > 0 for one in estimates)


def test_pages_of_the_checkpoint_alone_are_no_shortage(job: Job) -> None:
    large = replace(job, shape=replace(job.shape, rest=10**10))  # 20 GB in 16 bits, tied to nothing
    on_gpu = replace(large, machine=replace(job.machine, device="cuda", gpu_bytes=10**12))
    for ram in (4e9, 16e9):
        tune, *_ = estimate_stages(with_ram(on_gpu, ram))
        assert 0.9 * ram < tune.ram_bytes <= ram


def test_a_machine_large_enough_changes_nothing(job: Job) -> None:
    assert fit_recipe(job) == (job.recipe, [])


def test_a_smaller_micro_batch_keeps_the_sequences_of_an_optimizer_step(job: Job) -> None:
    only_tune = job.recipe.model_copy(
        update={"merge": None, "quantize": None, "export": None, "bench": None}
    )
    job = replace(job, recipe=only_tune)
    (tune,) = estimate_stages(job)
    small = with_ram(job, tune.ram_bytes - tune.why["activations"] / 2)
    fitted = fit_recipe(small)
    assert fitted is not None
    recipe, changes = fitted
    assert recipe.tune is not None and recipe.tune.batch_size < 64
    assert recipe.tune.batch_size * recipe.tune.gradient_accumulation == 128
    assert {change.key for change in changes} >= {"tune.batch_size", "tune.gradient_accumulation"}
    assert not find_shortages(*_estimated(small, recipe))


def _estimated(job: Job, recipe: Recipe) -> tuple[Job, list]:
    fitted = replace(job, recipe=recipe)
    return fitted, estimate_stages(fitted)


def test_what_nothing_makes_fit_is_none_and_names_the_stage(job: Job) -> None:
    small = with_ram(job, 100e6)
    assert fit_recipe(small) is None
    short = find_shortages(small, estimate_stages(small))
    assert {one.stage for one in short} == {"tune", "merge", "quantize", "export", "bench"}
    assert all(one.needed > one.available for one in short)
    assert any("model.path" in text for text in propose(small))


def test_disk_adds_up_over_stages(job: Job) -> None:
    estimates = estimate_stages(job)
    before_last = sum(one.disk_bytes for one in estimates[:-1])
    short = find_shortages(
        replace(job, machine=replace(job.machine, disk_bytes=before_last)), estimates
    )
    assert [(one.stage, one.resource) for one in short] == [("bench", "disk")]


def test_validation_time_is_of_eval_rows(job: Job) -> None:
    assert job.recipe.tune is not None
    tokens = replace(job.tokens, validation_rows=100_000)
    (first, *_), (whole, *_), (none, *_) = (
        estimate_stages(
            replace(
                job,
                tokens=tokens,
                recipe=job.recipe.model_copy(
                    update={"tune": job.recipe.tune.model_copy(update=settings)}
                ),
            )
        )
        for settings in ({"eval_every": 1}, {"eval_every": 1, "eval_rows": "all"}, {})
    )
    assert 0 < first.seconds - none.seconds < (whole.seconds - none.seconds) / 10


def test_a_model_that_cannot_be_traced_has_no_plan_and_still_runs(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = MixtralConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=512, eos_token_id=None,
    )  # fmt: skip
    experts = replace(job, config=config, dtype="float32")
    with pytest.raises(Unsupported, match="no plan for models of the type mixtral"):
        estimate_stages(experts)
    monkeypatch.setattr("edgetune.plan.PLANNED_BYTES", 1)
    monkeypatch.setattr("edgetune.plan.make_job", lambda recipe, folder: experts)
    tell_plan(job.recipe, tmp_path, Log(tmp_path / "log.jsonl", quiet=True), ["tune"])
    assert "no plan for models" in (tmp_path / "log.jsonl").read_text(encoding="utf-8")
