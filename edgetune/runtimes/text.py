"""Text from a loaded model: what :func:`edgetune.load` offers beside ids and logits."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

#: ``{"role", "content"}``.
Message = dict[str, str]


class TextGeneration:
    """Greedy text generation for every runtime, by its own tokenizer and chat template."""

    @abstractmethod
    def tokenize(self, text: str) -> list[int]: ...

    @abstractmethod
    def detokenize(self, ids: Sequence[int]) -> str: ...

    @abstractmethod
    def render(self, messages: list[Message], clock: str | None = None) -> str: ...

    @abstractmethod
    def stop_ids(self) -> list[int]: ...

    @abstractmethod
    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, stop_ids: Sequence[int]
    ) -> list[list[int]]: ...

    def generate_text(self, prompt: str | list[Message], max_new_tokens: int = 256) -> str:
        """Return the model's greedy answer, without special tokens and outer space.

        Args:
            prompt: a conversation, which the file's chat template renders, or a finished text, to
                which nothing is added.
            max_new_tokens: the answer is cut off there where no end token comes before.

        Raises:
            InputError: a conversation, and the file carries no chat template, or it refuses it.
        """
        text = prompt if isinstance(prompt, str) else self.render(prompt)
        (ids,) = self.generate([self.tokenize(text)], max_new_tokens, self.stop_ids())
        return self.detokenize(ids).strip()
