"""The pretraining text: the same for a seed, and without the answers of the device task."""

from itertools import islice

from tools.embedded import corpus
from tools.embedded.grammar import INTENTS

DOCUMENTS = list(islice(corpus.stream_documents(5), 3000))


def test_stream_is_seeded():
    assert list(islice(corpus.stream_documents(5), 200)) == DOCUMENTS[:200]
    assert list(islice(corpus.stream_documents(6), 200)) != DOCUMENTS[:200]


def test_no_document_holds_a_call():
    for text in DOCUMENTS:
        assert '"call":' not in text
        assert not any(f'"{name}"' in text for name in INTENTS)


def test_chat_documents_are_closed():
    for text in DOCUMENTS:
        assert text.count("<|im_start|>") == text.count("<|im_end|>\n")
