"""Facts keep their values through JSON, and those of earlier versions stay readable."""

from __future__ import annotations

import json

import pytest

from edgetune.errors import InputError
from edgetune.facts import (
    BenchFacts,
    ExportedFile,
    ExportFacts,
    FileChecks,
    GateResult,
    MeasuredModel,
    Measurement,
    MergeCandidate,
    MergeFacts,
    TuneFacts,
    from_json,
    to_json,
)

FILE = ExportedFile("Q8_0.gguf", "gguf", "Q8_0", "gguf/a-Q8_0.gguf", 7, "ab", 5, False)
CHECKS = FileChecks(False, 85, 3e-6, 0.99, 1274, ["x"])


def test_export_facts_survive_json() -> None:
    checked = ExportedFile(**{**vars(FILE), "checks": CHECKS, "modelfile": "a.Modelfile"})
    facts = ExportFacts([FILE, checked], gates=[GateResult("q", 1, None, False)])
    assert from_json(ExportFacts, json.loads(json.dumps(to_json(facts)))) == facts


def test_absent_optional_fields_are_not_written() -> None:
    written = to_json(FILE)
    assert "checks" not in written and "modelfile" not in written
    assert written["lossless"] is False and written["fallbacks"] == []


def test_an_interval_that_makes_no_sense_is_written_as_null() -> None:
    one = Measurement("load_s", 0.5, "s", 1, None, {"device": "cpu"})
    facts = BenchFacts([MeasuredModel("m", "file", "gguf", "Q8_0", "p", "ab", 1, [one])])
    written = to_json(facts)
    assert written["models"][0]["measurements"][0]["ci95"] is None
    assert from_json(BenchFacts, written) == facts


def test_unknown_keys_are_ignored_and_missing_ones_refused() -> None:
    assert from_json(ExportFacts, {"files": [{**to_json(FILE), "kept": 1}]}).files == [FILE]
    with pytest.raises(InputError, match="facts of another version"):
        from_json(ExportFacts, {"files": [{"name": "Q8_0.gguf"}]})


def test_a_loss_that_was_not_measured_is_written_as_null() -> None:
    facts = TuneFacts(steps=4, train_loss=1.5, end_token="</s>")
    written = json.loads(json.dumps(to_json(facts)))
    assert written["validation_loss"] is None and written["train_loss"] == 1.5
    assert from_json(TuneFacts, written) == facts
    del written["validation_loss"]
    assert from_json(TuneFacts, written) == facts


def test_a_key_that_is_a_keyword_of_python_survives_json() -> None:
    facts = MergeFacts([MergeCandidate("original", 1e-7, 1.0, 12)], source="distill")
    written = to_json(facts)
    assert written["from"] == "distill" and "source" not in written
    assert from_json(MergeFacts, written) == facts
