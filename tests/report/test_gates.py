"""Gates hold metrics, slices and differences, and are told to CI systems."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from edgetune.recipe import Gate, Recipe
from edgetune.report.build import write_report
from edgetune.report.gates import check_gates
from edgetune.report.junit import render_junit

from .conftest import MODELS, SampleRun, make_model

ALL = [make_model(row) for row in MODELS]


def test_gates() -> None:
    gates = (
        Gate(measurement="exact_match", models="quickstart-Q?_K*", min=0.94),
        Gate(measurement="kl_answer_tokens", models="merged", min=0.0, max=0.041),
        Gate(measurement="exact_match", models="nobody", min=0.1),
    )
    found = check_gates(gates, ALL)
    assert [(gate["value"], gate["ok"]) for gate in found] == [
        (0.943, True),
        (0.943, True),
        (0.937, False),
        (0.041, True),
        (0.041, True),
        (None, False),  # a gate that checks nothing does not hold
    ]
    assert found[0]["name"] == "exact_match of quickstart-Q6_K.gguf ≥ 0.94"


def test_gates_know_the_names_of_before() -> None:
    old = check_gates([Gate(measurement="kl_divergence_to_merged", models="*Q8_0*", max=1)], ALL)
    new = check_gates([Gate(measurement="kl_answer_tokens_to_merged", models="*Q8_0*", max=1)], ALL)
    assert old == new and old[0]["ok"] and old[0]["value"] is not None


def check(answered: SampleRun, **gate: Any) -> list[dict[str, Any]]:
    report = answered.report()
    return check_gates([Gate(**gate)], report["models"], report["evaluation"])


def test_the_base_with_examples_can_be_a_reference(tmp_path: Path) -> None:
    run = SampleRun(tmp_path / "run")
    run.finish(run.answer(prompted=0.6))
    gate = {"measurement": "exact_match", "models": "teacher", "reference": "base, 4 examples"}
    (held,) = check(run, **gate, min=0.2)
    assert held["ok"] and 0.2 < held["value"] < 58 / 60 - 36 / 60
    (failed,) = check(run, **gate, min=0.4)
    assert failed["name"].startswith("exact_match of teacher minus base, 4 examples")
    assert not failed["ok"]


def test_a_slice_is_held_by_its_own_figure(answered: SampleRun) -> None:
    slices = answered.report()["evaluation"]["models"][1]["slices"]
    gate = {"measurement": "exact_match", "models": "teacher"}
    found = check(answered, **gate, slice="length=*", min=0.95)
    assert len(found) == len(slices) > 1
    for one, part in zip(found, slices, strict=True):
        assert one["name"] == f"exact_match of teacher (length={part['value']}) ≥ 0.95"
        assert one["value"] == part["value_of_metric"]
        assert one["ok"] == (part["value_of_metric"] >= 0.95)
    (none,) = check(answered, **gate, slice="length=tiny", min=0)
    assert none["value"] is None and not none["ok"]


def test_a_difference_holds_only_where_its_interval_does(answered: SampleRun) -> None:
    """Q6_K is 2 points below the teacher on 60 rows: perhaps 2, perhaps 9."""
    file = "quickstart-Q6_K.gguf"
    gate = {"measurement": "exact_match", "models": file, "reference": "teacher"}
    (tight,) = check(answered, **gate, min=-0.03)
    (loose,) = check(answered, **gate, min=-0.15)
    assert tight["name"] == f"exact_match of {file} minus teacher ≥ -0.03, 95 % sure"
    assert not tight["ok"] and loose["ok"]
    differences = answered.report()["evaluation"]["differences"]
    (paired,) = [
        one for one in differences if (one["reference"], one["candidate"]) == ("teacher", file)
    ]
    assert tight["value"] == loose["value"] == paired["ci95"][0] < paired["difference"] < 0
    (most,) = check(answered, **gate, max=0.0)
    assert most["value"] == paired["ci95"][1] and not most["ok"]


def test_a_difference_that_the_report_has_not_paired_is_made_of_both_intervals(
    answered: SampleRun,
) -> None:
    gate = {"measurement": "exact_match", "models": "*Q4_0*", "reference": "*Q8_0*", "min": -0.5}
    (found,) = check(answered, **gate)
    assert -0.2 < found["value"] < 0 and found["ok"]
    sliced = check(answered, **{**gate, "slice": "length=medium"})
    assert len(sliced) == 1 and sliced[0]["value"] is not None
    (missing,) = check(answered, **{**gate, "measurement": "load_s"})  # it has no interval
    assert missing["value"] is None and not missing["ok"]


def test_a_difference_of_a_slice_is_paired_by_rows(answered: SampleRun) -> None:
    """Q4_0 answers right what Q8_0 does, but for two rows of 60."""
    gate = {"measurement": "exact_match", "models": "*Q4_0*", "reference": "*Q8_0*", "min": -0.3}
    gates = [gate, {**gate, "slice": "length=*"}]
    apart = [check(answered, **one) for one in gates]
    tree = answered.recipe.model_dump(exclude_unset=True)
    answered.recipe = Recipe.model_validate({**tree, "report": {"gates": gates}})
    report = answered.report()
    paired = {
        one["name"]: one["value"] for one in report["gates"] if one["name"].startswith("exact")
    }
    slices = report["evaluation"]["models"][1]["slices"]
    assert len(paired) == 1 + len(slices) == sum(map(len, apart))
    for before in (one for found in apart for one in found):
        assert before["value"] < paired[before["name"]] < 0.01
    kept = report["evaluation"]["gate_differences"]
    assert [one["ci95"][0] for one in kept] == [*paired.values()]
    assert [one["column"] for one in kept] == [None, *["length"] * len(slices)]


def test_junit_counts_failures_and_escapes_names(answered: SampleRun, tmp_path: Path) -> None:
    report = answered.report()
    report["name"] = 'a <run> & "more" \x00\ud800'
    report["gates"] = [
        {"name": "x ≥ 1 & <y>", "limit": 1.0, "value": None, "ok": False},
        {"name": "kl ≤ 0.1", "limit": 0.1, "value": 0.01, "ok": True},
    ]
    root = ElementTree.fromstring(render_junit(report))
    (suite,) = root
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert suite.get("name") == 'a <run> & "more" \ufffd\ufffd'
    first, second = suite
    assert first.get("name") == "x ≥ 1 & <y>" and len(second) == 0
    assert "nothing was measured, the limit is 1" in str(first[0].text)
    report["name"] = "run"
    write_report(report, tmp_path)
    ElementTree.parse(tmp_path / "gates.xml")
