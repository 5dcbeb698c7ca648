"""A bench without a report says what its answers are worth."""

from __future__ import annotations

from pathlib import Path

from edgetune.evaluate.grading import Settings, grade_predictions
from edgetune.evaluate.predictions import PredictionWriter, Question
from edgetune.evaluate.tell import tell_scores


def test_each_model_has_its_score_and_its_differences(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, [Question("q" * n, "yes") for n in range(1, 21)])
    writer.add("base", "base", ["no"] * 20)
    writer.add("a.gguf", "file", ["yes"] * 15 + ["no"] * 5)
    first, base, file = tell_scores(grade_predictions(writer.finish(), Settings("exact")))
    assert first == "task exact (chosen: the recipe names it), 20 rows"
    assert base.startswith("base: exact_match 0 (0 to 0.1")
    assert file.startswith("a.gguf: exact_match 0.75 (0.5")
    assert "; +0.75 against base (+0.4" in file
