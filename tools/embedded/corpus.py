"""The pretraining text: a seeded, endless stream of documents, all made by this package.

`stream_documents` mixes prose, JSON and little ChatML dialogues. None of it is in the call format
of the device rows: the key "call" never occurs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from tools.embedded import dialogues, drills, prose

#: (share of the documents, writer); the dialogues are short, so they get most of the documents.
_MIX = (
    (0.03, prose.tell_story),
    (0.02, prose.write_json),
    (0.55, dialogues.write_dialogue),
    (0.04, dialogues.write_examples),
    (0.36, drills.write_drill),
)
#: The last stretch, by which the model copies well: more ways to say a record, and typos.
_LATE_MIX = (
    (0.02, prose.tell_story),
    (0.01, prose.write_json),
    (0.25, dialogues.write_dialogue),
    (0.50, dialogues.write_report),
    (0.04, dialogues.write_examples),
    (0.18, drills.write_drill),
)


def stream_documents(seed: int, late: bool = False) -> Iterator[str]:
    """Endless documents, of the last stretch if ``late``; the same seed gives the same stream."""
    rng = random.Random(seed)
    shares, writers = zip(*(_LATE_MIX if late else _MIX), strict=True)
    while True:
        yield rng.choices(writers, shares)[0](rng)
