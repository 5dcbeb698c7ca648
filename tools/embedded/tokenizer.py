"""The embedded model's tokenizer: byte-level BPE with 4,096 entries, trained on the corpus."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tools.embedded import corpus, lexicon

VOCAB_SIZE = 4096
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_SPECIAL = re.compile("|".join(map(re.escape, SPECIALS)))

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def train_tokenizer(documents: int, seed: int) -> Tokenizer:
    """A trained tokenizer; ids 0, 1 and 2 are the special tokens in the order of `SPECIALS`."""
    tokenizer = Tokenizer(models.BPE())
    # GPT-2's split pattern: llama.cpp and transformers.js know it by name.
    plain_split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    # While the merges are learnt each digit stands alone, so that no merge holds one and "85" is
    # always "8", "5". With a token for each number, a teacher that had seen 8,500 rows still wrote
    # 81 for "eighty five": 79 of 101 wrong test answers were wrong numbers or times.
    alone = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([alone, plain_split])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )

    def texts() -> Iterator[str]:
        for text in islice(corpus.stream_documents(seed), documents):
            yield from (part for part in _SPECIAL.split(text) if part)
        # A word that opens a JSON string has no space before it. The corpus says it that way less
        # often than with a space, so both forms of the listed words are weighed in here.
        for word in lexicon.all_words():
            yield from [f'"{word}" {word}'] * 100

    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.pre_tokenizer = plain_split
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json and a tokenizer_config.json that transformers 4 and 5 both read."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "added_tokens_decoder": {
            str(i): {
                "content": token,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": True,
            }
            for i, token in enumerate(SPECIALS)
        },
        "add_bos_token": False,
        "add_eos_token": False,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
