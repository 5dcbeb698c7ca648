"""The pretraining text: a seeded, endless stream of documents, all made by this package.

`stream_documents` mixes prose, JSON and little ChatML dialogues. None of it is in the call format
of the device rows: the key "call" never occurs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from edgetune.embedded.make import dialogues, drills, prose

#: (share of the documents, writer); the dialogues are short, so they get most of the documents.
_MIX = (
    (0.03, prose.tell_story),
    (0.02, prose.write_json),
    (0.55, dialogues.write_dialogue),
    (0.04, dialogues.write_examples),
    (0.36, drills.write_drill),
)


def stream_documents(seed: int) -> Iterator[str]:
    """Endless documents; the same seed gives the same stream."""
    rng = random.Random(seed)
    shares, writers = zip(*_MIX, strict=True)
    while True:
        yield rng.choices(writers, shares)[0](rng)
