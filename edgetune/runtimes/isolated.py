"""A runtime in a process of its own, for files from anyone.

llama.cpp and ONNX Runtime are C++ that trusts what it reads: a file may pass every check of its
header and still abort the process, or ask for more memory than there is. Here only the child dies.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetune import errors
from edgetune.errors import EdgetuneError, InputError
from edgetune.runtimes.child import Child
from edgetune.runtimes.gguf_header import open_gguf
from edgetune.runtimes.text import TextGeneration

#: What a load may take: a hostile file of a megabyte must not hold a machine for minutes.
LOAD_SECONDS, BYTES_PER_SECOND = 8.0, 20e6
MEMORY_BYTES, MEMORY_PER_BYTE = 900 << 20, 16
#: Positions whose logits are in memory at once, in llama.cpp's buffer and as arrays.
LOGITS_ROWS, LOGITS_COPIES = 4096, 4


def memory_limit(path: Path, size: int) -> int:
    """Return the bytes of addresses that a model file may take beyond what its runtime does.

    Weights and cache grow with the file; logits with the vocabulary, which a small file may have a
    large one of: 150,000 tokens take 600 kB a position. A vocabulary is taken to be no larger than
    the file could hold, whatever it says.

    Args:
        path: a GGUF file or an ONNX folder.
        size: its bytes.
    """
    vocabulary = min(_count_vocabulary(path), size // 2)
    return MEMORY_BYTES + MEMORY_PER_BYTE * size + LOGITS_COPIES * 4 * vocabulary * LOGITS_ROWS


def _count_vocabulary(path: Path) -> int:
    """Return the vocabulary size that a file states; 0 without one."""
    if path.is_file():
        words = open_gguf(path).keys.get("tokenizer.ggml.tokens")
        return len(words) if isinstance(words, list) else 0
    try:
        config = json.loads((path / "genai_config.json").read_text(encoding="utf-8"))
        return max(0, int(config["model"]["vocab_size"]))
    except (OSError, ValueError, KeyError, TypeError):
        return 0


class Isolated(TextGeneration):
    """Any model file as an :class:`edgetune.runtimes.Runtime`, loaded by a child process."""

    def __init__(self, path: Path, threads: int, device: str = "cpu") -> None:
        self.path, self.threads, self.device = path, threads, device
        files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
        size = sum(one.stat().st_size for one in files)
        seconds = threads * (LOAD_SECONDS + size / BYTES_PER_SECOND)
        memory = memory_limit(path, size)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the child
        self._child: Child | None = Child(
            [sys.executable, "-m", "edgetune.runtimes.isolated_child", str(path), str(threads),
             device, str(seconds), str(memory)],
            self._stderr,
            # Each arena of glibc's allocator reserves addresses, which the limit would count; an
            # assertion of ggml that fails would call a debugger.
            env={**os.environ, "MALLOC_ARENA_MAX": "1", "GGML_NO_BACKTRACE": "1"},
        )  # fmt: skip
        try:
            self.name: str = self._receive()[0]["name"]
        except BaseException:
            self.close()
            raise

    def tokenize(self, text: str) -> list[int]:
        return list(self._ask("tokenize", text))

    def detokenize(self, ids: Sequence[int]) -> str:
        return str(self._ask("detokenize", list(ids)))

    def render(self, messages: list[dict[str, str]], clock: str | None = None) -> str:
        return str(self._ask("render", messages, clock))

    def stop_ids(self) -> list[int]:
        return list(self._ask("stop_ids"))

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        logits: np.ndarray = self._ask("logits", list(ids))
        return logits

    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, stop_ids: Sequence[int]
    ) -> list[list[int]]:
        given = [list(prompt) for prompt in prompts]
        return list(self._ask("generate", given, max_new_tokens, list(stop_ids)))

    def stream(self, prompt: Sequence[int], max_new_tokens: int) -> Iterator[int]:
        """Yield the tokens after the last one is there: times are not to be taken here."""
        yield from self._ask("generate", [list(prompt)], max_new_tokens, [])[0]

    def close(self) -> None:
        """End the child."""
        if self._child is None:
            return
        self._child.stop()
        self._stderr.close()
        self._child = None

    def _ask(self, method: str, *arguments: Any) -> Any:
        if self._child is None:
            raise EdgetuneError("this runtime is closed", where=str(self.path))
        try:
            self._child.send({"method": method, "arguments": arguments})
        except BrokenPipeError:
            raise self._death() from None
        head, array = self._receive()
        return array if array is not None else head["value"]

    def _receive(self) -> tuple[dict[str, Any], np.ndarray | None]:
        assert self._child is not None
        frame = self._child.receive()
        if frame is None:
            raise self._death()
        head, array = frame
        if "error" in head:
            kind = getattr(errors, head["error"], EdgetuneError)
            raise kind(head["what"], where=head["where"], hint=head["hint"])
        return head, array

    def _death(self) -> InputError:
        """Return why the child ended; its last output is that of the C code."""
        assert self._child is not None
        code = self._child.wait()
        how = f"with exit code {code}"
        if code == -signal.SIGPROF:
            how = "when its time was up"
        elif code < 0:
            how = f"by {signal.Signals(-code).name}"
        self._stderr.seek(0)
        words = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        asserted = [word for word in words if "GGML_ASSERT" in word]
        last = f": {(asserted or words)[-1].strip()[:200]}" if words else ""
        return InputError(
            f"the process that ran this model was ended {how}{last}",
            where=str(self.path),
            hint="the file is broken, or made for another version of its runtime; export it again",
        )
