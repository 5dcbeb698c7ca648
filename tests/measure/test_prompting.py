"""Prompts of the untouched base against the tuned model, over the same rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgetune.data.build_encoder import make_encoder
from edgetune.data.dataset.make import load_splits
from edgetune.data.examples import Examples
from edgetune.data.rows import Message, Row
from edgetune.facts import PromptedModel, PromptingFacts
from edgetune.log import Log
from edgetune.measure import prompting
from edgetune.measure.prompting import (
    TUNED,
    measure_prompting,
    read_prompted,
    was_tuning_needed,
)
from edgetune.measure.prompts import (
    Asked,
    Kind,
    Questions,
    list_kinds,
    make_prompts,
    write_prompt,
)
from edgetune.measure.requests import time_requests
from edgetune.measure.statistics import paired_difference
from edgetune.measure.subject import make_subject
from edgetune.models.ref import ModelRef
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import BenchSection, DataSection, PromptingSection


def make_asked(model: Path, part: str, rows: Path, context: int | None = None) -> Asked:
    encoder = make_encoder(load_tokenizer(model), DataSection(train=str(rows)), None)
    return Asked(part, make_subject(ModelRef(model), part, part), encoder, context)


def test_each_number_of_examples_is_asked_without_and_with_the_system_prompt() -> None:
    section = PromptingSection(shots=(0, 1, 4, 1), system="Answer in JSON.")
    assert [kind.name for kind in list_kinds(section)] == [
        "zero-shot", "zero-shot, system prompt", "1 example", "1 example, system prompt",
        "4 examples", "4 examples, system prompt",
    ]  # fmt: skip
    assert len(list_kinds(PromptingSection())) == 2


def test_examples_are_earlier_turns_and_the_row_keeps_its_system_message() -> None:
    def make_row(system: str, ask: str, answer: str) -> Row:
        turns = (Message("system", system), Message("user", ask), Message("assistant", answer))
        return Row(turns, None, "r")

    row, example = make_row("own", "q", "a"), make_row("theirs", "q1", "a1")
    found = write_prompt(row, [example], "Be brief.")
    contents = [(turn.role, turn.content) for turn in found.messages]
    assert contents == [
        ("system", "Be brief.\n\nown"), ("user", "q1"), ("assistant", "a1"), ("user", "q"),
        ("assistant", "a"),
    ]  # fmt: skip
    assert found.answer == "a"
    assert write_prompt(row, [], None) == row


def test_a_short_context_has_fewer_examples(tiny_model: Path, device_rows: Path) -> None:
    asked = make_asked(tiny_model, "base", device_rows)
    splits = load_splits(DataSection(train=str(device_rows)), 0, Log(quiet=True))
    rows = list(splits.test)[:3]
    examples = Examples(splits.train, True, 0.8, 0)
    questions = Questions(rows, examples)
    whole = make_prompts(asked, questions, Kind(3, None), 4)
    assert whole.cut == 0
    room = max(map(len, whole.ids)) - 1 + 4
    less = make_prompts(replace(asked, context=room), questions, Kind(3, None), 4)
    assert less.cut >= 1
    assert max(map(len, less.ids)) + 4 <= room
    shown = asked.encoder.tokenizer.decode(whole.ids[0])
    assert all(one.answer in shown for one in examples.choose(rows[0], 3))
    none = make_prompts(replace(asked, context=5), questions, Kind(3, None), 4)
    assert none.ids == [asked.encoder.prompt(row) for row in rows]


def test_an_interval_of_equal_answers_has_a_width() -> None:
    all_right, none = [True] * 50, [False] * 50
    change = paired_difference(all_right, none)
    assert change.value == 1 and change.ci95 is not None
    assert 0.8 < change.ci95[0] < 1 == change.ci95[1]
    same = paired_difference(all_right, all_right)
    assert same.ci95 is not None and same.ci95[0] < 0 < same.ci95[1]
    # 30 of 100 rows gained, 10 lost: 20 / 102 -+ 1.96 sqrt(41 - 400 / 102) / 102.
    one, other = [True] * 30 + [False] * 70, [False] * 30 + [True] * 10 + [False] * 60
    found = paired_difference(one, other)
    assert found.value == pytest.approx(0.2)
    assert found.ci95 == pytest.approx((0.07907, 0.31308), abs=1e-5)
    with pytest.raises(ValueError, match="no rows"):
        paired_difference([], [])


def test_base_and_tuned_model_answer_the_same_rows(
    tiny_model: Path, device_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights as base and as tuned model: right zero-shot answers differ by nothing."""
    splits = load_splits(DataSection(train=str(device_rows)), 0, Log(quiet=True))
    rows = list(splits.train)[:4]
    section = BenchSection(
        max_new_tokens=3, repeats=2, threads=1, prompting=PromptingSection(shots=(0, 2))
    )
    models = [make_asked(tiny_model, part, device_rows) for part in ("base", TUNED)]
    questions = Questions(rows, Examples(splits.train, False, 1.0, 0))
    call = (models, questions, section, tmp_path, Log(quiet=True))
    found = measure_prompting(*call)
    assert found is not None
    assert [one.name for one in found.models] == ["base, zero-shot", "base, 2 examples", TUNED]
    assert found.asked == 4
    zero, shown, tuned = ({m.name: m for m in one.measurements} for one in found.models)
    assert zero["exact_match"] == tuned["exact_match"] and zero["exact_match"].n == 4
    assert zero["request_tokens"] == tuned["request_tokens"]
    assert shown["request_tokens"].value > zero["request_tokens"].value
    assert all(one["request_ms_p50"].value > 0 and one["request_ms_p50"].n == 2
               for one in (zero, shown, tuned))  # fmt: skip
    assert found.models[0].difference is not None and found.models[2].difference is None
    assert found.models[0].difference["difference"] == 0
    assert found.best == "base, zero-shot"  # none is right: the one with fewer tokens
    assert "no significant difference" in was_tuning_needed(found)

    monkeypatch.setattr(prompting, "run_worker", None)  # what is measured is kept
    assert measure_prompting(*call) == found
    kept = dict(read_prompted(models, tmp_path))
    assert [*kept] == ["base, zero-shot", "base, 2 examples"]
    assert [len(one) for one in kept.values()] == [4, 4]


def test_rows_that_train_has_too_are_asked_and_not_counted(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    """Their answers stand beside those of other models, which are asked them too."""
    splits = load_splits(DataSection(train=str(device_rows)), 0, Log(quiet=True))
    section = BenchSection(
        max_new_tokens=2, repeats=1, threads=1, prompting=PromptingSection(shots=(0,))
    )
    models = [make_asked(tiny_model, "base", device_rows)]
    examples = Examples(splits.train, False, 1.0, 0)
    questions = Questions(list(splits.train)[:4], examples, [False, True, False, False])
    found = measure_prompting(models, questions, section, tmp_path, Log(quiet=True))
    assert found is not None and found.asked == 3
    figures = {one.name: one.n for one in found.models[0].measurements}
    assert figures["exact_match"] == figures["request_tokens"] == 3
    assert [len(answers) for _, answers in read_prompted(models, tmp_path)] == [4]
    every = replace(questions, leaked=[True] * 4)
    assert measure_prompting(models, every, section, tmp_path, Log(quiet=True)) is None


def test_a_template_that_refuses_a_prompt_is_told_and_the_others_are_measured(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    asked = make_asked(tiny_model, "base", device_rows)
    asked.encoder.tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        + asked.encoder.tokenizer.chat_template
    )
    splits = load_splits(DataSection(train=str(device_rows)), 0, Log(quiet=True))
    section = BenchSection(
        max_new_tokens=2, repeats=1, threads=1,
        prompting=PromptingSection(shots=(0,), system="Be brief."),
    )  # fmt: skip
    examples = Examples(splits.train, False, 0.8, 0)
    questions = Questions(list(splits.test)[:2], examples)
    found = measure_prompting([asked], questions, section, tmp_path, Log(quiet=True))
    assert found is not None
    plain, refused = found.models
    assert plain.measurements and not plain.why
    assert not refused.measurements and "no system role" in refused.why
    assert found.best == plain.name and was_tuning_needed(found) == ""


def test_rows_without_answers_are_not_asked(tmp_path: Path) -> None:
    section = BenchSection(prompting=PromptingSection())
    warned: list[str] = []

    class Warned(Log):
        def warn(self, text: str) -> None:
            warned.append(text)

    questions = Questions([], Examples([], False, 0.8, 0))
    assert measure_prompting([], questions, section, tmp_path, Warned(quiet=True)) is None
    assert "no test row has an answer" in warned[0]


def test_a_request_ends_at_its_end_token() -> None:
    class Counted:
        """Answers 1, 2, 3 …; counts the tokens that are taken."""

        taken = 0

        def stream(self, prompt: list[int], max_new_tokens: int):  # type: ignore[no-untyped-def]
            for token in range(1, max_new_tokens + 1):
                self.taken += 1
                yield token

    runtime = Counted()
    found = time_requests(runtime, [[7], [8]], 50, [3])  # type: ignore[arg-type]
    assert len(found) == 2 and runtime.taken == 3 * 3  # one request warms up


@pytest.mark.parametrize(
    ("bounds", "answer"),
    [
        ((0.1, 0.5), "Tuning was needed."),
        ((-0.1, 0.5), "Tuning made no significant difference to the best prompt."),
        ((-0.5, -0.1), "Tuning was not needed: the prompt is better."),
    ],
)
def test_the_answer_follows_the_interval(bounds: tuple[float, float], answer: str) -> None:
    from edgetune.facts import Measurement

    def make(name: str, score: float) -> PromptedModel:
        figures = {"exact_match": score, "request_tokens": 40.0, "request_ms_p50": 9.0}
        measured = [Measurement(n, v, "", 100, None, {}) for n, v in figures.items()]
        change = {"difference": sum(bounds) / 2, "ci95": list(bounds), "n": 100}
        return PromptedModel(
            name, name, 0, False, 1, measured, difference=change if name != TUNED else None
        )

    found = PromptingFacts([make("base, zero-shot", 0.4), make(TUNED, 0.6)], "base, zero-shot", 100)
    assert was_tuning_needed(found).startswith(answer)
