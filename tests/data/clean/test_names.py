"""Names of people, by a tiny model that takes some words for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

from edgetune.data.clean import clean_rows
from edgetune.data.clean.names import find_names
from edgetune.errors import InputError
from edgetune.recipe import CleanSection
from edgetune.recipe.load import check_tree
from edgetune.source_hashes import find_sources, sources_of
from tests.data.clean.rows import make_row

NAMES = ("Jane", "Doe")


def make_model(folder: Path, labels: tuple[str, str] = ("O", "B-PER")) -> str:
    """Save a model that labels a token by its embedding alone: names are the words above."""
    words = ["[PAD]", "[UNK]", *NAMES]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words), hidden_size=4, num_hidden_layers=0, num_attention_heads=1,
        intermediate_size=4, max_position_embeddings=40, id2label=dict(enumerate(labels)),
        label2id={label: n for n, label in enumerate(labels)},
    )  # fmt: skip
    model = BertForTokenClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        embeddings = model.bert.embeddings
        embeddings.LayerNorm.weight.fill_(1.0)
        embeddings.word_embeddings.weight[:2, 0] = 1.0
        embeddings.word_embeddings.weight[2:, 1] = 1.0
        model.classifier.weight[0, 0] = model.classifier.weight[1, 1] = 1.0
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_model(tmp_path_factory.mktemp("names"))


def test_names_are_joined_and_found_in_long_texts(folder: str) -> None:
    texts = ["I met Jane Doe there.", "nobody", "word " * 200 + "and Jane"]
    assert find_names(texts, folder) == [{"Jane Doe"}, set(), {"Jane"}]


def test_a_name_gets_one_placeholder_in_all_turns(folder: str) -> None:
    section = CleanSection(pii="fix", names_model=folder)
    rows = [make_row("I am Jane Doe, Jane.Doe@x.org.", "Hello Jane Doe!"), make_row("no one")]
    first, second = clean_rows(rows, section)
    assert first.row is not None and second.row is rows[1]
    contents = [turn.content for turn in first.row.messages]
    assert contents == ["I am <NAME_1>, <EMAIL_1>.", "Hello <NAME_1>!"]
    assert [finding.reason for finding in first.findings] == ["email", "name"]


def test_names_are_reported_only_where_the_step_warns(folder: str) -> None:
    row = make_row("I am Jane Doe")
    (cleaned,) = clean_rows([row], CleanSection(pii="warn", names_model=folder))
    assert cleaned.row is row and [finding.reason for finding in cleaned.findings] == ["name"]


def test_a_folder_without_such_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model folder"):
        find_names(["a"], str(tmp_path))
    with pytest.raises(InputError, match="no label of people"):
        find_names(["a"], make_model(tmp_path / "other", ("O", "LOC")))


def test_the_model_of_names_decides_the_artifact(folder: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a"}\n')
    data = {"train": str(rows), "clean": {"names_model": folder}}
    recipe = check_tree({"model": {"path": "embedded:base"}, "data": data}, "recipe")
    sources = sources_of(("data",), find_sources(recipe))
    assert "source:names_model" in sources
    (Path(folder) / "more.txt").write_text("another model")
    assert sources_of(("data",), find_sources(recipe)) != sources
