"""Answers that are longer than bench lets a model write are told before they are asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgetune.data.build_encoder import make_encoder
from edgetune.data.rows import Message, Row
from edgetune.measure.subject import Workload, make_workload
from edgetune.measure.tell import tell_long_answers
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import BenchSection, DataSection


def make(model: Path, answers: list[str]) -> Workload:
    encoder = make_encoder(load_tokenizer(model), DataSection(train="-"), None)
    rows = [Row((Message("user", "say it"), Message("assistant", one)), None, "row")
            for one in answers]  # fmt: skip
    return make_workload(encoder, rows, BenchSection(), 0)


def test_answers_that_do_not_fit_are_counted(tiny_model: Path) -> None:
    answers = ["on", "turn on the lamp in the hall, then the other one in the kitchen"]
    workload = make(tiny_model, answers)
    longest = len(workload.encoder.tokenizer(answers[1], add_special_tokens=False)["input_ids"])
    assert tell_long_answers(workload, longest) == []
    assert tell_long_answers(workload, longest - 1) == [
        f"1 right answer of 2 cannot be given in full: bench.max_new_tokens is {longest - 1}, "
        f"the longest has {longest} tokens"
    ]
    assert tell_long_answers(replace(workload, prompts=[], expected=[]), 1) == []
