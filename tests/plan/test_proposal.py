"""Proposals follow the model's size and the rows: each value has a reason, and steps are enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgetune.models.shape import Shape
from edgetune.plan.proposal import PRESETS, RowFacts, propose, propose_rate

ROWS = RowFacts("sft", "prompt_completion", train=15_100, mean=41.0, p99=60, longest=62)


def make_shape(hidden: int = 256, layers: int = 12, context: int | None = 1024) -> Shape:
    tensors = {
        f"model.layers.{layer}.{name}.weight": (hidden, hidden)
        for layer in range(layers)
        for name in ("q_proj", "up_proj")
    }
    tensors |= {f"model.layers.{layer}.k_proj.weight": (hidden // 4, hidden) for layer in range(2)}
    return Shape(layers, context, tensors, True, False, {"hidden_size": hidden})


def steps_of(tune: dict[str, Any], rows: RowFacts) -> float:
    per_step = tune["batch_size"].value * getattr(tune.get("gradient_accumulation"), "value", 1)
    return tune["epochs"].value * rows.train / per_step


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("train", [300, 2_000, 15_100, 1_000_000])
@pytest.mark.parametrize("mean", [40.0, 800.0])
def test_steps_are_enough_to_learn_and_no_more_than_the_preset_spends(
    preset: str, train: int, mean: float
) -> None:
    rows = replace(ROWS, train=train, mean=mean, p99=int(2 * mean), longest=int(2 * mean))
    tune = propose(make_shape(), rows, preset)["tune"]
    effort = PRESETS[preset]
    steps = steps_of(tune, rows)
    assert steps <= 1.1 * effort.most_steps
    assert steps >= 0.5 * effort.steps or tune["epochs"].value == effort.epochs
    assert tune["epochs"].value <= effort.epochs
    assert 5 <= tune["eval_every"].value <= max(5, steps / 4)
    assert tune["save_every"].value == tune["eval_every"].value
    assert ("patience" in tune) == (tune["epochs"].value > 1)


def test_presets_differ_in_steps_rank_and_files() -> None:
    found = {name: propose(make_shape(), ROWS, name) for name in PRESETS}
    steps = [steps_of(one["tune"], ROWS) for one in found.values()]
    assert steps == sorted(steps) and steps[0] < steps[2]
    assert [one["tune"]["rank"].value for one in found.values()] == [8, 16, 32]
    assert "budget" in found["best"]["quantize"] and "budget" not in found["balanced"]["quantize"]
    assert ["distill" in one for one in found.values()] == [False, False, True]
    assert found["best"]["distill"]["student"].value == {"layers": 6}


def test_a_student_is_proposed_where_it_can_pay() -> None:
    for shape, rows in (
        (make_shape(layers=4), ROWS),
        (make_shape(), replace(ROWS, train=500)),
        (make_shape(), replace(ROWS, objective="dpo")),
    ):
        assert "distill" not in propose(shape, rows, "best")


def test_the_learning_rate_follows_width_method_and_objective() -> None:
    narrow, wide = make_shape(256), make_shape(4096)
    rates = [propose_rate(one, "lora", "sft").value for one in (narrow, wide)]
    assert 2e-3 < rates[0] < 4e-3 and 2e-4 < rates[1] < 4e-4
    assert propose_rate(wide, "full", "sft").value == pytest.approx(rates[1] / 10, rel=0.05)
    assert propose_rate(wide, "qlora", "dpo").value == pytest.approx(rates[1] / 10, rel=0.05)
    assert propose_rate(make_shape(32), "lora", "sft").value == 4e-3


def test_the_length_is_the_99th_percentile_within_the_context() -> None:
    def length(**changes: Any) -> Any:
        return propose(make_shape(context=512), replace(ROWS, **changes), "fast")["data"][
            "max_length"
        ]

    assert length().value == 64  # the longest, which is hardly more
    assert length(p99=60, longest=400).value == 64 and "99 %" in length(longest=400).why
    assert length(p99=900, longest=950).value == 512
    assert length(p99=3, longest=3).value == 32
    assert "context" in length(p99=900, longest=950).why


def test_prompts_that_fill_the_length_are_skipped_where_there_may_be_some() -> None:
    def data(**changes: Any) -> Any:
        return propose(make_shape(), replace(ROWS, **changes), "fast")["data"]

    assert "on_bad_row" not in data()
    assert data(longest=400)["on_bad_row"].value == "skip"
    assert data(whole=False)["on_bad_row"].value == "skip"
    assert "on_bad_row" not in data(objective="text", whole=False)


def test_small_models_are_tuned_over_their_own_weights() -> None:
    tune = propose(make_shape(), ROWS, "balanced")["tune"]
    assert tune["method"].value == "lora" and "would save" in tune["method"].why
    assert propose(make_shape(4096, 32), ROWS, "fast")["tune"]["method"].value == "qlora"
    assert propose(make_shape(16), ROWS, "best")["tune"]["rank"].value == 4  # the narrowest matrix


def test_texts_train_all_weights_of_a_small_model_in_packed_sequences() -> None:
    rows = RowFacts("text", "text", train=2_000, mean=300.0, p99=3_000, longest=9_000)
    sections = propose(make_shape(), rows, "balanced")
    tune = sections["tune"]
    assert (tune["method"].value, tune["packing"].value) == ("full", True)
    assert "rank" not in tune and "alpha" not in tune
    assert sections["data"]["max_length"].value == 1024
    sequences = replace(rows, train=586)  # 600,000 tokens in sequences of 1,024
    assert steps_of(tune, sequences) >= 0.5 * PRESETS["balanced"].steps


def test_short_rows_are_packed_on_a_gpu_alone() -> None:
    rows = replace(ROWS, p99=400, longest=400)
    packed = [propose(make_shape(), rows, "fast", device)["tune"]["packing"].value
              for device in ("cpu", "cuda")]  # fmt: skip
    assert packed == [False, True]
    assert "packing" not in propose(make_shape(), replace(rows, objective="dpo"), "fast")["tune"]


def test_long_rows_accumulate_over_passes_that_fit() -> None:
    rows = replace(ROWS, mean=600.0, p99=8_000, longest=9_000)
    tune = propose(make_shape(context=None), rows, "best")["tune"]
    assert tune["batch_size"].value == 2
    assert tune["gradient_accumulation"].value * 2 in (4, 8)


def test_each_value_has_a_reason() -> None:
    for name in PRESETS:
        for values in propose(make_shape(), ROWS, name).values():
            assert all(one.why for one in values.values())


def test_embedding_and_head_are_trained_where_answers_have_untrained_tokens() -> None:
    assert "modules_to_save" not in propose(make_shape(), ROWS, "fast")["tune"]
    shape = make_shape()
    embedding = {**shape.tensors, "model.embed_tokens.weight": (1000, 256)}
    tune = propose(replace(shape, tensors=embedding), replace(ROWS, untrained=2), "fast")["tune"]
    assert tune["modules_to_save"].value == ["embed_tokens", "lm_head"]
    assert tune["modules_to_save"].why.startswith("2 tokens of answers")
