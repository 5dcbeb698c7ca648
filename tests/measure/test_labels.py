"""Log likelihoods of labels are transformers' own, in whichever runtime the file runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from edgetune.data.build_encoder import make_encoder
from edgetune.data.rows import Message, Row
from edgetune.measure.labels import add_labels
from edgetune.measure.subject import Workload, make_workload
from edgetune.measure.worker import _score_labels
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import BenchSection, DataSection
from edgetune.runtimes import open_runtime
from tests.model_files import make_gguf, make_onnx
from tests.tiny_models import make_tiny_model

#: Labels of one and of several tokens, some with a common beginning, one with another's as its own.
LABELS = ("on", "off", "light", "light.set", "light.set forty", "GetWeather", "Ünïcode ✓")
TASKS = ("turn the light on", "what is the kitchen like?", "set forty percent", "", "off " * 60)


def make_rows() -> list[Row]:
    prompts = [*TASKS, "and the lamp", "call light.set"]
    return [
        Row((Message("user", prompt), Message("assistant", label)), None, "test")
        for prompt, label in zip(prompts, LABELS, strict=True)
    ]


def make_asked(model: Path) -> Workload:
    encoder = make_encoder(load_tokenizer(model), DataSection(train="rows"), None)
    section = BenchSection(label_likelihood=True, label_rows=6)
    return add_labels(make_workload(encoder, make_rows(), section, 0), make_rows(), section)


def score_in_transformers(folder: Path, asked: Workload) -> np.ndarray:
    """Return ``[rows, labels]`` by a pass over each whole sequence."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for prompt in asked.prompts[: asked.labelled]:
        for label in asked.labels.values():
            with torch.inference_mode():
                logits_TV = model(torch.tensor([[*prompt, *label]])).logits[0].double()
            log_probs_TV = logits_TV.log_softmax(-1)[len(prompt) - 1 : -1]
            found.append(float(log_probs_TV[range(len(label)), label].sum()))
    return np.array(found).reshape(-1, len(asked.labels))


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "model"
    return make_tiny_model(request.param, folder, real_tokenizer=False)


@pytest.mark.parametrize("kind", ["torch", "llama.cpp", "onnxruntime"])
def test_every_runtime_gives_each_label_the_likelihood_of_transformers(
    kind: str, family: Path
) -> None:
    asked = make_asked(family)
    assert list(asked.labels) == sorted(LABELS) and asked.labelled == 6
    wanted = score_in_transformers(family, asked)
    assert np.ptp(wanted) > 10, "labels that are alike would prove nothing"
    make = {"torch": lambda folder: folder, "llama.cpp": make_gguf, "onnxruntime": make_onnx}
    runtime = open_runtime(make[kind](family), threads=1)
    assert runtime.name == kind
    found = np.array(_score_labels(runtime, asked.to_json()))
    runtime.close()
    assert found.shape == wanted.shape == (6, 7)
    assert np.abs(found - wanted).max() < 1e-4


def test_answers_that_are_no_labels_are_not_scored(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = make_asked(tiny_model)
    wanted = BenchSection(label_likelihood=True)
    plain = replace(asked, labels={}, labelled=0)
    assert add_labels(plain, make_rows(), BenchSection()).labels == {}
    monkeypatch.setattr("edgetune.measure.labels.MOST", len(LABELS) - 1)
    assert add_labels(plain, make_rows(), wanted).labels == {}, "more than can be labels"
    alone = make_workload(asked.encoder, make_rows()[:1] * 3, wanted, 0)
    assert add_labels(alone, make_rows()[:1] * 3, wanted).labels == {}, "nothing to choose from"
