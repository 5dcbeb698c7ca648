"""The three runtimes give one model's numbers."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgetune.errors import EdgetuneError, InputError
from edgetune.runtimes import Runtime, open_for_check, open_runtime
from tests.model_files import make_gguf, make_onnx

CHAT = [
    {"role": "system", "content": "You turn words into calls."},
    {"role": "user", "content": "turn the light in the kitchen to 40 % — naïve 東京"},
]


@pytest.fixture(scope="module")
def runtimes(tiny_model: Path) -> Iterator[dict[str, Runtime]]:
    files = [tiny_model, make_gguf(tiny_model), make_onnx(tiny_model)]
    opened = [open_runtime(file, threads=1) for file in files]
    yield {runtime.name: runtime for runtime in opened}
    for runtime in opened:
        runtime.close()
        runtime.close()  # a second time must do nothing


@pytest.fixture
def prompts(runtimes: dict[str, Runtime]) -> list[list[int]]:
    """Prompts of several lengths, some of them equal, in no order."""
    ids = runtimes["torch"].tokenize(runtimes["torch"].render(CHAT))
    return [ids, ids[:5], ids[5:9], ids[3:8], ids[::-1], ids[10:], ids[7:8], ids[2:7]]


def test_chooses_by_what_it_is_given(runtimes: dict[str, Runtime]) -> None:
    assert sorted(runtimes) == ["llama.cpp", "onnxruntime", "torch"]
    assert {(r.device, r.threads) for r in runtimes.values()} == {("cpu", 1)}


def test_a_file_is_checked_as_it_is_run(
    runtimes: dict[str, Runtime], tiny_model: Path, prompts: list[list[int]]
) -> None:
    checked = open_for_check(make_gguf(tiny_model), 1)
    assert np.array_equal(checked.logits(prompts[0]), runtimes["llama.cpp"].logits(prompts[0]))
    checked.close()
    assert open_for_check(make_onnx(tiny_model), 1).name == "onnxruntime"


@pytest.mark.parametrize("other", ["llama.cpp", "onnxruntime"])
def test_same_prompt_text_and_ids(runtimes: dict[str, Runtime], other: str) -> None:
    text = runtimes["torch"].render(CHAT)
    assert text.endswith("<|im_start|>assistant\n")
    assert runtimes[other].render(CHAT) == text
    assert runtimes[other].tokenize(text) == runtimes["torch"].tokenize(text)
    assert runtimes[other].tokenize("<|im_end|>") == [2]  # special, and nothing added around it


@pytest.mark.parametrize("other", ["llama.cpp", "onnxruntime"])
def test_same_text_from_a_conversation_and_from_its_prompt(
    runtimes: dict[str, Runtime], other: str
) -> None:
    """Greedy answers of a random model are nonsense, and the same nonsense everywhere."""
    trained = runtimes["torch"]
    said = trained.generate_text(CHAT, 24)
    assert said and "<|" not in said
    assert said == said.strip() == trained.generate_text(trained.render(CHAT), 24)
    assert runtimes[other].generate_text(CHAT, 24) == said


def test_text_survives_tokens(runtimes: dict[str, Runtime]) -> None:
    text = "turn on the lamp, caf\u00e9 \u2192 \U0001f4a1"
    ended = f"{text}<|im_end|>"
    for runtime in runtimes.values():
        assert runtime.detokenize(runtime.tokenize(text)) == text
        assert runtime.detokenize(runtime.tokenize(ended)) == text
        assert runtime.detokenize([]) == ""


@pytest.mark.parametrize("other", ["llama.cpp", "onnxruntime"])
def test_same_logits(runtimes: dict[str, Runtime], prompts: list[list[int]], other: str) -> None:
    long = list(itertools.islice(itertools.cycle(prompts[0]), 511))  # runs past a batch with BOS
    for ids in (*prompts, long):
        wanted, found = runtimes["torch"].logits(ids), runtimes[other].logits(ids)
        assert found.dtype == np.float32
        assert found.shape == wanted.shape == (len(ids), wanted.shape[1])
        np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("name", ["torch", "llama.cpp", "onnxruntime"])
def test_generates_what_its_logits_say(
    runtimes: dict[str, Runtime], prompts: list[list[int]], name: str
) -> None:
    runtime = runtimes[name]
    greedy = []
    for prompt in prompts:
        ids = list(prompt)
        for _ in range(6):
            ids.append(int(runtime.logits(ids)[-1].argmax()))
        greedy.append(ids[len(prompt) :])
    assert runtime.generate(prompts, 6, []) == greedy
    assert list(runtime.stream(prompts[0], 6)) == greedy[0]


@pytest.mark.parametrize("name", ["torch", "llama.cpp", "onnxruntime"])
def test_stops_each_sequence_at_its_own_end(
    runtimes: dict[str, Runtime], prompts: list[list[int]], name: str
) -> None:
    runtime = runtimes[name]
    free = runtime.generate(prompts, 12, [])
    stops = {free[0][3], free[1][1], free[4][0]}  # some sequences end early, some at once
    wanted = [list(itertools.takewhile(lambda id: id not in stops, answer)) for answer in free]
    assert [] in wanted and len({len(answer) for answer in wanted}) > 2
    assert runtime.generate(prompts, 12, list(stops)) == wanted
    assert [runtime.generate([p], 12, list(stops))[0] for p in prompts] == wanted
    assert list(runtime.stream(prompts[0], 12)) == free[0]  # latency is measured to the last token


@pytest.mark.parametrize("name", ["torch", "llama.cpp", "onnxruntime"])
def test_nothing_to_generate(runtimes: dict[str, Runtime], name: str) -> None:
    assert runtimes[name].generate([], 4, []) == []


def test_more_sequences_than_run_together(
    runtimes: dict[str, Runtime], prompts: list[list[int]]
) -> None:
    many = prompts * 9  # 72: more than a group of any runtime
    for runtime in runtimes.values():
        assert runtime.generate(many, 3, []) == runtime.generate(prompts, 3, []) * 9


@pytest.mark.parametrize("make", [make_gguf, make_onnx])
def test_a_closed_runtime_says_so(tiny_model: Path, make: Callable[[Path], Path]) -> None:
    runtime = open_runtime(make(tiny_model), threads=1)
    runtime.logits([5, 6, 7])
    runtime.close()
    with pytest.raises(EdgetuneError, match="closed"):
        runtime.logits([5, 6, 7])


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda folder: folder / "absent.gguf", "no such model"),
        (lambda folder: folder, "not a model"),
    ],
)
def test_refuses_what_is_no_model(tmp_path: Path, make: Callable[[Path], Path], fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        open_runtime(make(tmp_path))


def test_refuses_a_broken_onnx_model(tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(make_onnx(tiny_model), tmp_path / "onnx"))
    whole = (folder / "model.onnx").read_bytes()
    for broken in (b"", whole[: len(whole) // 2], b"\x00" * 100):
        (folder / "model.onnx").write_bytes(broken)
        with pytest.raises(InputError):
            open_runtime(folder)
    (folder / "model.onnx").write_bytes(whole)
    (folder / "model.onnx.data").write_bytes(b"short")
    with pytest.raises(InputError, match="cannot load"):
        open_runtime(folder)
    (folder / "genai_config.json").write_text("{")
    with pytest.raises(InputError, match="JSON"):
        open_runtime(folder)
