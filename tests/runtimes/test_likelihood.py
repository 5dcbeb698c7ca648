"""Log likelihoods of continuations equal those of plain logits, on every runtime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from edgetune.runtimes import Runtime, open_runtime, torch_branches
from edgetune.runtimes.likelihood import (
    Likelihood,
    Request,
    logits_after,
    score_continuations,
)
from tests.model_files import make_gguf, make_onnx
from tests.tiny_models import make_tiny_model


@pytest.fixture(scope="module", params=["torch", "llama.cpp", "onnxruntime"])
def runtime(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[Runtime]:
    make = {"torch": lambda folder: folder, "llama.cpp": make_gguf, "onnxruntime": make_onnx}
    opened = open_runtime(make[request.param](tiny_model), threads=1)
    yield opened
    opened.close()


def score_alone(runtime: Runtime, request: Request) -> Likelihood:
    """One request by the logits of the whole sequence and torch's own log softmax."""
    context, continuation = map(list, request)
    logits_TV = runtime.logits([*context, *continuation])[len(context) - 1 : -1]
    log_probs_PV = torch.log_softmax(torch.from_numpy(logits_TV.copy()).double(), dim=-1)
    total = log_probs_PV[range(len(continuation)), continuation].sum()
    return float(total), logits_TV.argmax(axis=1).tolist() == continuation


def make_requests() -> list[Request]:
    """Contexts shared and not, in no order; continuations of one token, equal, long ones."""
    draw = np.random.default_rng(0)
    contexts = [draw.integers(5, 90, size=size).tolist() for size in (1, 7, 40)]
    contexts.append([*contexts[2][:30], 6, 7])  # begins as another does
    requests: list[Request] = []
    for size in (1, 3, 1, 400, 2):
        for context in contexts:
            continuation = draw.integers(5, 90, size=size).tolist()
            requests.append((context, continuation))
            if size < 9:
                requests.append((context, [*continuation[:-1], 9]))
    requests += requests[:2]
    return requests


@pytest.mark.parametrize("chunk", [2**21, 1])
def test_equals_one_request_at_a_time(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """Whether the logits of a branch come in one block, or of eight positions each."""
    requests = make_requests()
    alone = [score_alone(runtime, one) for one in requests]
    monkeypatch.setattr("edgetune.runtimes.CHUNK_SCORES", chunk)
    scored = score_continuations(runtime, requests)
    assert np.allclose([x for x, _ in scored], [x for x, _ in alone], rtol=1e-5, atol=2e-5)
    assert [x for _, x in scored] == [x for _, x in alone]


def test_a_runtime_without_shared_contexts_gives_the_same(runtime: Runtime) -> None:
    class Plain:
        name, logits = "plain", staticmethod(runtime.logits)

    requests = make_requests()[:6]
    plain = score_continuations(Plain(), requests)  # type: ignore[arg-type]
    assert np.allclose(
        [x for x, _ in plain], [x for x, _ in score_continuations(runtime, requests)], atol=2e-5
    )


def test_a_context_is_computed_once(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """No whole sequence is computed, and no block holds more rows than are asked for."""
    monkeypatch.setattr(runtime, "logits", None)
    blocks = list(logits_after(runtime, range(9, 39), [[5, 6, 7], [8]]))
    assert [len(block) for block in blocks] == [1, 3, 1]


@pytest.mark.parametrize("kind", ["torch", "llama.cpp"])
@pytest.mark.parametrize("family", ["gemma2", "gemma3", "phi3", "smollm3"])
def test_branches_that_share_a_window_equal_one_request_at_a_time(
    family: str, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Contexts beyond the sliding window, branches longer than it and short ones after them."""
    folder = tmp_path_factory.mktemp(family) / "model"
    make_tiny_model(family, folder, real_tokenizer=False)
    opened = open_runtime(make_gguf(folder) if kind == "llama.cpp" else folder, threads=1)
    draw = np.random.default_rng(1)
    requests: list[Request] = []
    for context in (draw.integers(5, 90, size=size).tolist() for size in (9, 150)):
        for size in (3, 5, 300, 2, 9, 70, 1, 4):
            requests.append((context, draw.integers(5, 90, size=size).tolist()))
    scored = score_continuations(opened, requests)
    alone = [score_alone(opened, one) for one in requests]
    opened.close()
    assert np.allclose([x for x, _ in scored], [x for x, _ in alone], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("kind", ["torch", "llama.cpp"])
def test_options_of_a_question_take_two_passes(
    kind: str, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the context, one of all options; those too long for it have one of their own."""
    opened = open_runtime(make_gguf(tiny_model) if kind == "llama.cpp" else tiny_model, threads=1)
    passes: list[int] = []
    if kind == "llama.cpp":
        decode = opened.decode  # type: ignore[attr-defined]
        monkeypatch.setattr(
            opened,
            "decode",
            lambda tokens, *more: passes.append(len(tokens)) or decode(tokens, *more),
        )
    else:
        feed = torch_branches._feed
        monkeypatch.setattr(
            torch_branches, "_feed",
            lambda model, device, sequences, *more: passes.append(sum(map(len, sequences)))
            or feed(model, device, sequences, *more),
        )  # fmt: skip
    options = [([7, 8, 9], [10, number, 11]) for number in range(20, 26)]
    options.append(([7, 8, 9], [5] * 2))
    score_continuations(opened, options)
    assert passes == [3, 6 * 2 + 1]
    passes.clear()
    monkeypatch.setattr("edgetune.runtimes.CHUNK_SCORES", 1)  # eight positions together
    score_continuations(opened, options)
    assert passes == [3, 4 * 2, 2 * 2 + 1]
    opened.close()


def test_greedy_is_what_generate_says(runtime: Runtime) -> None:
    prompt = [10, 11, 12]
    (answer,) = runtime.generate([prompt], 5, [])
    other = [*answer[:-1], answer[-1] + 1]
    (_, first), (_, second) = score_continuations(runtime, [(prompt, answer), (prompt, other)])
    assert first and not second


@pytest.mark.parametrize("request_ids", [([], [1]), ([1], [])])
def test_empty_is_refused(runtime: Runtime, request_ids: Request) -> None:
    with pytest.raises(ValueError, match="request 0 has an empty context or continuation"):
        score_continuations(runtime, [request_ids])


def test_nothing_asked_nothing_scored(runtime: Runtime) -> None:
    assert score_continuations(runtime, []) == []
