"""Copies: written rows that say what a train row, an earlier row or a held-out row says already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from edgetune.data.clean.pairs import find_pairs
from edgetune.data.clean.sketch import sketch_texts
from edgetune.data.rows import Message, Row
from edgetune.data.split import prompt_key
from edgetune.synthesize.draft import Draft
from edgetune.synthesize.tasks import TASKS
from edgetune.synthesize.validators import Scene


class DuplicateCheck:
    """What train rows, seeds or earlier written rows say already.

    New prompts are compared alone, near duplicates included; where the prompts are the seeds' own,
    equal prompts are compared with their answers.
    """

    def __init__(self, scene: Scene) -> None:
        self._alone = TASKS[scene.section.task].new_prompts
        rows = scene.known if self._alone else [row for row in scene.known if row.answer]
        self._known = {self._key(row.prompt, row.answer) for row in rows}
        self._near = NearTexts(scene.section.validators.similarity)
        if self._alone:
            self._near.add(text_of(row.prompt) for row in scene.known)

    def find_faults(self, drafts: Sequence[Draft]) -> list[str]:
        near = [0.0] * len(drafts)
        if self._alone:
            near = self._near.find([text_of(draft.prompt) for draft in drafts], each_other=True)
        reasons, seen = [], set[str]()
        for draft, similarity in zip(drafts, near, strict=True):
            key = self._of(draft)
            if key in self._known or key in seen:
                reasons.append("duplicate: exact")
            else:
                reasons.append(f"duplicate: near ({similarity:.2f})" if similarity else "")
            seen.add(key)
        return reasons

    def accept(self, drafts: Sequence[Draft]) -> None:
        self._known |= {self._of(draft) for draft in drafts}
        if self._alone:
            self._near.add(text_of(draft.prompt) for draft in drafts)

    def _of(self, draft: Draft) -> str:
        return self._key(draft.prompt, f"{draft.answer}\0{draft.rejected}".rstrip("\0"))

    def _key(self, prompt: Sequence[Message], answer: str) -> str:
        key = key_of(prompt)
        return key if self._alone else f"{key}\0{answer}"


class LeakageCheck:
    """Prompts of validation and test rows, and near duplicates of them, must not be trained on."""

    def __init__(self, scene: Scene) -> None:
        self._known = {key_of(row.prompt) for row in scene.held_out}
        self._near = NearTexts(scene.section.validators.similarity)
        self._near.add(text_of(row.prompt) for row in scene.held_out)

    def find_faults(self, drafts: Sequence[Draft]) -> list[str]:
        near = self._near.find([text_of(draft.prompt) for draft in drafts])
        return [
            "leakage: exact"
            if key_of(draft.prompt) in self._known
            else f"leakage: near ({similarity:.2f})"
            if similarity
            else ""
            for draft, similarity in zip(drafts, near, strict=True)
        ]

    def accept(self, drafts: Sequence[Draft]) -> None:
        """Nothing is remembered."""


class NearTexts:
    """Texts that others are compared with by the exact Jaccard similarity of their shingles.

    Args:
        threshold: least similarity; at 1 nothing is near.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._texts: list[str] = []
        self._bands = sketch_texts([])

    def add(self, texts: Iterable[str]) -> None:
        """Compare later texts with these, too."""
        if self._threshold >= 1:
            return
        new = list(texts)
        self._texts += new
        self._bands = np.concatenate((self._bands, sketch_texts(new)))

    def find(self, texts: Sequence[str], each_other: bool = False) -> list[float]:
        """Return the greatest similarity of each text to a known one, or 0 below the threshold.

        With ``each_other`` those before it in ``texts`` count as known.
        """
        found = np.zeros(len(texts))
        if self._threshold >= 1 or not texts:
            return found.tolist()
        known, bands = len(self._texts), sketch_texts(texts)
        together = [*self._texts, *texts]

        def read(numbers: np.ndarray) -> list[str]:
            return [together[number] for number in numbers]

        everything = np.concatenate((self._bands, bands))
        queries = np.arange(len(together)) >= known
        pairs = find_pairs(everything, read, self._threshold, queries)
        np.maximum.at(found, pairs.right - known, pairs.jaccard)
        if each_other:
            pairs = find_pairs(bands, lambda numbers: [texts[n] for n in numbers], self._threshold)
            np.maximum.at(found, pairs.right, pairs.jaccard)
        return found.tolist()


def key_of(prompt: Sequence[Message]) -> str:
    """Return what equal prompts have in common, letters' case and spaces aside."""
    return prompt_key(Row((*prompt, Message("assistant", "-")), None, "")).casefold()


def text_of(prompt: Sequence[Message]) -> str:
    """Return what the user says in a prompt."""
    return "\n".join(message.content for message in prompt if message.role == "user")
