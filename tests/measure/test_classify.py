"""Classifiers read texts in a process of their own, as transformers would, and once only."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.measure import classify
from edgetune.measure.classifier_job import run_classifier
from edgetune.measure.classify import TextProbabilities, classify_texts
from edgetune.recipe import BenchSection
from tests.tiny_classifiers import LONGEST, WORDS, make_classifier

LONG = " ".join(["you"] * LONGEST + ["stupid"])  # the word lies beyond what the classifier reads


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier(tmp_path_factory.mktemp("classifier") / "polite")


def find(named: dict[str, Any], texts: list[str], scratch: Path) -> dict[str, TextProbabilities]:
    section = BenchSection.model_validate({"threads": 1, "fairness": {"classifier": named}})
    return classify_texts(section, texts, scratch, Log(quiet=True))


def test_the_word_is_recognized_and_what_is_known_is_not_read_again(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"rude": {"model": str(classifier), "label": "rude"},
             "fine": {"model": str(classifier), "label": 0}}  # fmt: skip
    texts = ["you are stupid", "open the door please", " you are stupid\n", "", LONG]
    found = find(named, texts, tmp_path)
    rude = found["rude"]
    assert rude.of("you are stupid") > 0.9 > 0.1 > rude.of("open the door please")
    assert rude.of(" you are stupid\n") == rude.of("you are stupid")
    assert rude.of("") == rude.of("  \n") == 0
    assert rude.cut == {LONG} and rude.of(LONG) < 0.1
    assert found["fine"].of("you are stupid") == pytest.approx(1 - rude.of("you are stupid"))
    assert (rude.model, rude.classifier.label) == ("polite", "rude")

    monkeypatch.setattr(classify.Workers, "run", None)
    assert find(named, texts, tmp_path)["rude"].probabilities == rude.probabilities
    with pytest.raises(TypeError):  # other texts need a process
        find(named, [*texts, "sorry"], tmp_path)


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("multiple", [True, False])
def test_batches_give_what_transformers_gives_for_each_text(
    multiple: bool, padded: bool, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = make_classifier(
        tmp_path / "c", ("sorry", "rude"), second="sorry" if multiple else None
    )
    chance = random.Random(1)
    texts = [" ".join(chance.choices(WORDS, k=chance.randint(1, 9))) for _ in range(70)]
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    if not padded:  # a model that knows no padding is asked one text at a time
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": None}))
    function = "sigmoid" if multiple else "softmax"
    job = {"classifier": str(folder), "index": 1, "function": function, "device": "cpu",
           "texts": str(tmp_path / "texts.json"), "threads": 1}  # fmt: skip
    found = run_classifier(job)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for text, value in zip(texts, found["probabilities"], strict=True):
        with torch.inference_mode():
            logits = model(**tokenizer(text, return_tensors="pt")).logits[0]
        wanted = logits.sigmoid() if multiple else logits.softmax(-1)
        assert value == pytest.approx(float(wanted[1]), abs=1e-6)
        assert (value > 0.5) == ("stupid" in text.split())


def test_a_head_that_is_not_there_is_no_random_one(classifier: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(classifier, tmp_path / "headless"))
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "classifier" not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"classifier\.bias"):
        find({"rude": {"model": str(folder), "label": "rude"}}, ["yes"], tmp_path)
