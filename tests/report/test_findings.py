"""The sentences and verdicts follow from the figures, also from the awkward ones."""

from __future__ import annotations

import pytest

from edgetune.report.findings import compare_distillation, find_headline
from edgetune.report.format import milliseconds, percent, rate, round_form, size, small, times
from edgetune.report.tables import model_rows, speed_settings

from .conftest import MODELS, make_model

ALL = [make_model(row) for row in MODELS]


def chosen(name: str) -> dict:
    return next(model for model in ALL if model["name"] == name)


def score(role: str, value: float, low: float, high: float) -> dict:
    model = make_model((role, role, "hf", "BF16", 1.0, value, 0.1, 1.0))
    model["measurements"][0]["ci95"] = [low, high]
    return model


def test_headline_is_the_smallest_file_that_keeps_enough() -> None:
    found = find_headline(ALL)
    assert found["model"] == "quickstart-Q4_K_M.gguf"  # Q4_0 is smaller and keeps 95.2 %
    assert found["kept"] == pytest.approx(0.937 / 0.963)
    assert found["ratio"] == pytest.approx(20.31 / 3.74, rel=1e-3)
    assert found["text"] == (
        "Q4_K_M keeps 97.3\u202f% of the teacher’s score in 3.74\u202fMB, 5.4× smaller."
    )


def test_headline_without_a_file_that_keeps_enough() -> None:
    found = find_headline(
        [chosen("teacher"), chosen("quickstart-int4"), chosen("quickstart-Q4_0.gguf")]
    )
    assert found["model"] == "quickstart-Q4_0.gguf"  # the better of the two, not the smaller


def test_headline_without_a_task_speaks_of_tokens() -> None:
    models = [chosen("teacher"), chosen("quickstart-Q6_K.gguf")]
    bare = [
        {**m, "measurements": [x for x in m["measurements"] if x["name"] != "exact_match"]}
        for m in models
    ]
    assert "agrees with the teacher on 98.6\u202f% of answer tokens" in find_headline(bare)["text"]
    assert find_headline([])["model"] is None
    assert find_headline([chosen("base")])["model"] is None


def test_headline_of_a_reference_that_scores_nothing() -> None:
    teacher = score("teacher", 0.0, 0.0, 0.01)
    found = find_headline([teacher, chosen("quickstart-Q6_K.gguf")])
    assert found["score"] == "top1_answer_tokens"


@pytest.mark.parametrize(
    ("student", "verdict"),
    [
        ((0.95, 0.92, 0.97), "won"),
        ((0.91, 0.88, 0.94), "no significant difference"),
        ((0.80, 0.76, 0.84), "lost"),
    ],
)
def test_distillation(student: tuple[float, float, float], verdict: str) -> None:
    models = [
        score("teacher", 0.97, 0.95, 0.98),
        score("baseline", 0.89, 0.86, 0.91),
        score("merged", *student),
    ]
    found = compare_distillation(models)
    assert found is not None
    assert found["verdict"] == verdict
    assert found["gap_recovered"] == pytest.approx((student[0] - 0.89) / 0.08)
    assert compare_distillation(models[:2]) is None


def test_newcombe_interval() -> None:
    """Newcombe 1998, table II, case (a): 56/70 against 48/80 is 0.2 with 0.0524 to 0.3339."""
    models = [
        score("baseline", 48 / 80, 0.4905, 0.7005),
        score("merged", 56 / 70, 0.6915, 0.8771),
    ]
    found = compare_distillation(models)
    assert found is not None
    assert found["ci95"] == pytest.approx([0.0524, 0.3339], abs=2e-3)


def test_numbers_read_well() -> None:
    narrow = "\u202f"
    assert [size(v) for v in (0, 999, 2_140_000, 21_400_000, 1.5e9, None)] == [
        f"0{narrow}B",
        f"999{narrow}B",
        f"2.14{narrow}MB",
        f"21.4{narrow}MB",
        f"1.50{narrow}GB",
        "–",
    ]
    assert [milliseconds(v) for v in (0.456, 12.34, 1234)] == [
        f"456{narrow}µs",
        f"12.3{narrow}ms",
        f"1.23{narrow}s",
    ]
    assert [small(v) for v in (0.0, 0.0402, 1.9, 2.1e-8)] == ["0", "0.0402", "1.90", "2.1×10⁻⁸"]
    assert [rate(v) for v in (9.54, 96, 2010)] == ["9.54", "96.0", "2,010"]
    assert (percent(0.957), times(9.24)) == (f"95.7{narrow}%", "9.2×")
    assert [round_form(size)(v) for v in (5e6, 2.5e6, 100)] == [
        f"5{narrow}MB",
        f"2.5{narrow}MB",
        f"100{narrow}B",
    ]


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_a_score_that_is_the_same_for_all_decides_nothing(value: float) -> None:
    models = [
        {**m, "measurements": [
            {**x, "value": value} if x["name"] == "exact_match" else x for x in m["measurements"]
        ]}
        for m in ALL
    ]  # fmt: skip
    found = find_headline(models)
    assert found["score"] == "top1_answer_tokens"
    assert "agrees with the teacher on" in found["text"]
    assert f"Exact match is {percent(value)} for every model and says nothing" in found["text"]
    assert "KL divergence and perplexity" in found["note"]


def test_decoding_names_its_depth() -> None:
    deep = make_model(MODELS[5])
    for one in deep["measurements"]:
        one["where"] = {**one["where"], "prompt_tokens": 96, "new_tokens": 24}
    titles = [column.title for column in model_rows([deep])[0]]
    assert "Decode tok/s, depth\u00a096" in titles
    other = make_model(MODELS[6])
    assert "Decode tok/s" in [column.title for column in model_rows([deep, other])[0]]
    said = speed_settings([deep])
    assert "prompts of 96 tokens, answers of 24, CPU threads: 2" in said and "cache is f16" in said
    assert speed_settings([other]) == ""  # measured before settings were kept
