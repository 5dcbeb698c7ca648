"""A classifier's folder says its labels, and what is none is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgetune.errors import InputError
from edgetune.models.classifier import describe_classifier, find_longest
from tests.tiny_classifiers import make_classifier


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier(tmp_path_factory.mktemp("classifier") / "c")


def with_config(folder: Path, target: Path, **values: Any) -> Path:
    copied = Path(shutil.copytree(folder, target))
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, **values}))
    return copied


def test_labels_are_found_by_name_and_by_number(classifier: Path) -> None:
    by_name = describe_classifier(classifier, "rude", "here")
    assert (by_name.index, by_name.function) == (1, "softmax")
    assert describe_classifier(classifier, 1, "here") == by_name


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("rud", ["did you mean 'rude'", "0: fine, 1: rude", "here.label"]),
        (2, ["no label 2", "0: fine, 1: rude"]),
        (-1, ["no label -1"]),
    ],
)
def test_a_label_it_has_not_is_refused_with_those_it_has(
    classifier: Path, label: str | int, words: list[str]
) -> None:
    with pytest.raises(InputError) as error:
        describe_classifier(classifier, label, "here")
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"architectures": ["BertModel"]}, "no sequence classifier: its architecture is BertModel"),
        ({"architectures": None}, "not named"),
        ({"problem_type": "regression"}, "problem_type: regression"),
        ({"auto_map": {"AutoModelForSequenceClassification": "own.Own"}}, "code of its own"),
    ],
)
def test_what_is_no_classifier_is_refused(
    classifier: Path, tmp_path: Path, values: dict[str, Any], said: str
) -> None:
    folder = with_config(classifier, tmp_path / "other", **values)
    with pytest.raises(InputError, match=said):
        describe_classifier(folder, 1, "here")


def test_pickled_weights_are_not_opened(classifier: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(classifier, tmp_path / "pickled"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="pickle"):
        describe_classifier(folder, 1, "here")


def test_one_label_or_several_at_once_have_a_probability_each(
    classifier: Path, tmp_path: Path
) -> None:
    multiple = with_config(classifier, tmp_path / "m", problem_type="multi_label_classification")
    assert describe_classifier(multiple, "rude", "here").function == "sigmoid"
    unnamed = with_config(classifier, tmp_path / "u", id2label=None)
    assert describe_classifier(unnamed, "LABEL_1", "here").index == 1
    one = with_config(classifier, tmp_path / "o", id2label={"0": "toxic"})
    assert describe_classifier(one, 0, "here").function == "sigmoid"


def test_roberta_takes_fewer_tokens_than_it_has_positions() -> None:
    from types import SimpleNamespace

    from transformers import RobertaConfig, RobertaForSequenceClassification

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = RobertaConfig(
        vocab_size=9, intermediate_size=8, max_position_embeddings=20, pad_token_id=1, **sizes
    )
    model = RobertaForSequenceClassification(config)
    assert find_longest(model, SimpleNamespace(model_max_length=10**30)) == 18
    assert find_longest(model, SimpleNamespace(model_max_length=12)) == 12
