"""What does not fit is refused or made to fit without a change of what is trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import MixtralConfig

from edgetune.errors import Unsupported
from edgetune.log import Log
from edgetune.plan import make_job, tell_plan
from edgetune.plan.estimate import estimate_stages
from edgetune.plan.fit import find_shortages, fit_job, propose
from edgetune.plan.job import Job
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
    machine = replace(job.machine, ram_bytes=int(size / USABLE))
    steps = {label: replace(step, machine=machine) for label, step in job.steps.items()}
    return replace(job, machine=machine, steps=steps)


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
    assert fit_job(job) == (job, [])


def test_a_smaller_micro_batch_keeps_the_sequences_of_an_optimizer_step(job: Job) -> None:
    only_tune = job.recipe.model_copy(
        update={"merge": None, "quantize": None, "export": None, "bench": None}
    )
    job = replace(job, recipe=only_tune)
    (tune,) = estimate_stages(job)
    small = with_ram(job, tune.ram_bytes - tune.why["activations"] / 2)
    fitted = fit_job(small)
    assert fitted is not None
    recipe, changes = fitted[0].recipe, fitted[1]
    assert recipe.tune is not None and recipe.tune.batch_size < 64
    assert recipe.tune.batch_size * recipe.tune.gradient_accumulation == 128
    assert {change.key for change in changes} >= {"tune.batch_size", "tune.gradient_accumulation"}
    assert not find_shortages(*_estimated(small, recipe))


def _estimated(job: Job, recipe: Recipe) -> tuple[Job, list]:
    fitted = replace(job, recipe=recipe)
    return fitted, estimate_stages(fitted)


def test_what_nothing_makes_fit_is_none_and_names_the_stage(job: Job) -> None:
    small = with_ram(job, 100e6)
    assert fit_job(small) is None
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


def make_steps(model: Path, rows: Path, tmp_path: Path) -> Job:
    """Return a tuning of three steps: supervised, pairs, and answers that are rewarded."""
    pairs = tmp_path / "pairs.jsonl"
    lines = [{"prompt": f"light {n}", "chosen": "on " * 9, "rejected": "off"} for n in range(40)]
    pairs.write_text("\n".join(map(json.dumps, lines)))
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("\n".join(json.dumps({"prompt": f"light {n}"}) for n in range(40)))
    data = {"max_length": 64}
    grpo = {"rewards": ["json"], "max_new_tokens": 16, "generations": 4, "beta": 0.0}
    steps = [
        {"objective": "sft", "packing": False},
        {"objective": "dpo", "batch_size": 64, "data": {"train": str(pairs), **data}},
        {"objective": "grpo", "grpo": grpo, "data": {"train": str(prompts), **data}},
    ]
    tree = {
        "name": "steps", "model": {"path": str(model), "device": "cpu"},
        "data": {"train": str(rows), "max_length": 128}, "merge": {},
        "tune": [{"batch_size": 8, "epochs": 1, **step} for step in steps],
    }  # fmt: skip
    made: Job = make_job(Recipe.model_validate(tree), tmp_path / "run")
    return made


def test_each_step_has_an_estimate_of_its_own_rows(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    job = make_steps(tiny_model, device_rows, tmp_path)
    estimates = {one.stage: one for one in estimate_stages(job)}
    assert list(estimates) == ["tune-sft", "tune-dpo", "tune", "merge"]
    sft, dpo, grpo = (job.steps[name] for name in ("tune-sft", "tune-dpo", "tune"))
    assert sft.tokens == job.tokens and dpo.tokens.rows == 38
    assert grpo.tokens.longest < 64 and grpo.tokens.trained == 16 / grpo.tokens.mean
    assert dpo.recipe.tuned is not None
    single = dpo.recipe.tuned.model_copy(update={"objective": "sft", "packing": False})
    alone = replace(dpo, recipe=dpo.recipe.model_copy(update={"tune": single}))
    one, two = estimate_stages(alone)[0], estimates["tune-dpo"]
    assert two.why["activations"] == pytest.approx(2 * one.why["activations"], rel=0.01)
    assert two.step_seconds > 1.2 * one.step_seconds


def test_sampling_and_a_reference_take_time(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    job = make_steps(tiny_model, device_rows, tmp_path).steps["tune"]

    def seconds(**settings: object) -> float:
        tune = job.recipe.tuned
        assert tune is not None
        grpo = tune.grpo.model_copy(update=settings)
        section = tune.model_copy(update={"grpo": grpo})
        changed = replace(job, recipe=job.recipe.model_copy(update={"tune": section}))
        return estimate_stages(changed)[0].step_seconds

    assert seconds(beta=0.1) > seconds()
    assert seconds(max_new_tokens=64) > 1.3 * seconds()


def test_a_step_that_is_too_large_is_made_smaller_and_no_other(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    job = make_steps(tiny_model, device_rows, tmp_path)
    job = replace(job, recipe=job.recipe.model_copy(update={"merge": None}))
    large = {one.stage: one for one in estimate_stages(job)}["tune-dpo"]
    fitted = fit_job(with_ram(job, large.ram_bytes - large.why["activations"] / 3))
    assert fitted is not None
    changed, changes = fitted
    assert {one.key for one in changes} >= {"tune.1.batch_size", "tune.1.gradient_accumulation"}
    assert all(one.key.startswith("tune.1.") for one in changes)
    assert [one.batch_size for one in changed.recipe.steps] == [8, 32, 8]
    assert changed.steps["tune-dpo"].recipe.tuned == changed.recipe.steps[1].model_copy(
        update={"data": None}
    )
