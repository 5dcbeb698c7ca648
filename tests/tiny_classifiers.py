"""A tiny sequence classifier that is really trained: it recognizes words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

WORDS = [
    "you", "are", "we", "go", "the", "lamp", "is", "on", "off", "please", "open", "door", "stupid",
    "sorry", "cannot", "yes", "no",
]  # fmt: skip
LONGEST = 16  # tokens, with [CLS] and [SEP]


def make_classifier(
    folder: Path, labels: Sequence[str] = ("fine", "rude"), word: str = "stupid",
    second: str | None = None,
) -> Path:  # fmt: skip
    """Train a BERT of one layer to tell texts with a word, and save it as a Hugging Face folder.

    Args:
        folder: new folder.
        labels: names; the last one is of texts that have the word.
        word: what is recognized.
        second: of a classifier whose labels do not exclude each other, the first label's word.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = _make_tokenizer(folder)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=LONGEST, pad_token_id=0,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(labels)), label2id={name: n for n, name in enumerate(labels)},
        problem_type="multi_label_classification" if second else "single_label_classification",
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertForSequenceClassification(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    chance = random.Random(0)
    for _ in range(250 if second else 80):
        texts = [" ".join(chance.choices(WORDS, k=chance.randint(1, 8))) for _ in range(64)]
        has = [[float(one in text.split()) for one in (second or "", word)] for text in texts]
        wanted = torch.tensor(has) if second else torch.tensor([int(one[1]) for one in has])
        loss = model(**tokenizer(texts, padding=True, return_tensors="pt"), labels=wanted).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert float(loss.detach()) < 0.1, "the classifier learned its words"
    model.save_pretrained(folder)
    return folder


def _make_tokenizer(folder: Path):  # type: ignore[no-untyped-def]
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {one: number for number, one in enumerate([*specials, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]",
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    fast.save_pretrained(folder)
    return fast
