"""GGUF files in llama.cpp, through its C interface.

Text is generated as a user of llama.cpp gets it: memory-mapped weights, a 16-bit KV cache, flash
attention where it helps. Logits are computed with a 32-bit cache and plain attention, so that they
tell of the file: on stories260K in F32 the defaults cost a KL of 1.7e-6, the plain path 2e-12.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as c

from edgetune.errors import EdgetuneError, InputError, Unsupported
from edgetune.runtimes import greedy
from edgetune.runtimes.amx import has_broken_amx
from edgetune.runtimes.branches import TOGETHER
from edgetune.runtimes.gguf_header import check_gguf
from edgetune.runtimes.gpu import REMEDIES, find_gpu_fault
from edgetune.runtimes.llama_batch import BATCH_TOKENS, Batch, spans
from edgetune.runtimes.llama_branches import count_room, logits_after
from edgetune.runtimes.llama_characters import find_characters, refuse_unknown
from edgetune.runtimes.llama_memory import Memory
from edgetune.runtimes.llama_sequences import Sequences
from edgetune.runtimes.sampling import Picker, Sampling
from edgetune.runtimes.template import render_template
from edgetune.runtimes.text import TextGeneration

SEQUENCES = 32  # decoded together; a step of a small model costs about the same for 1 and 8
CACHE_TOKENS = 32_768  # bounds the memory of all sequences' caches; 4 GB for an 8 B Llama
# Plain attention computes what the mask then hides; in halves there is less of that. Logits of 512
# tokens of a 47 M Llama take 0.93 s, whole 1.13 s.
EXACT_BATCH_TOKENS = 256
_ERROR_LEVEL = 4  # ggml_log_level: 1 debug, 2 info, 3 warning, 4 error

_complaints: deque[str] = deque(maxlen=4)


@c.llama_log_callback  # type: ignore[untyped-decorator]
def _collect_errors(level: int, text: bytes, _: Any) -> None:
    if level == _ERROR_LEVEL and text.strip():
        _complaints.append(text.decode("utf-8", "replace").strip())


class LlamaCpp(TextGeneration):
    """A GGUF file loaded by llama.cpp; see :class:`edgetune.runtimes.Runtime`.

    With ``adapter``, a LoRA file made for it, the update is added as llama.cpp's users get it. With
    a ``kv_cache`` of ``q8_0`` or ``q4_0``, logits too are computed through that cache. Not
    ``mapped``, the file is read: weights that are repacked for this CPU then lie in memory once.
    """

    name = "llama.cpp"

    def __init__(
        self,
        path: Path,
        threads: int,
        device: str = "cpu",
        adapter: Path | None = None,
        kv_cache: str = "f16",
        mapped: bool = True,
    ) -> None:
        check_gguf(path)
        c.llama_log_set(_collect_errors, None)
        if device == "cuda" and (fault := find_gpu_fault("gguf")):
            raise Unsupported(fault, where=str(path), hint=REMEDIES["gguf"])
        self.path, self.threads, self.device = path, threads, device
        self._kv_type = {"q8_0": c.GGML_TYPE_Q8_0, "q4_0": c.GGML_TYPE_Q4_0}.get(kv_cache)
        self._context: Any = None
        self._fits = (0, 0, False)  # sequences, tokens of each, exact: what the context is for
        self._model: Any = self._load(path, device, mapped)
        self._adapters: dict[Path, Any] = {}
        self._adapter: Any = self._load_adapter(adapter) if adapter is not None else None
        self._vocab = c.llama_model_get_vocab(self._model)
        self._is_recurrent = bool(
            c.llama_model_is_recurrent(self._model) or c.llama_model_is_hybrid(self._model)
        )
        self._vocab_size = int(c.llama_vocab_n_tokens(self._vocab))
        self._characters: set[str] | None = None
        if c.llama_vocab_type(self._vocab) == c.LLAMA_VOCAB_TYPE_SPM:
            self._characters = find_characters(set(map(self._token_text, range(self._vocab_size))))
        self._batch = Batch(BATCH_TOKENS)

    def _load(self, path: Path, device: str, mapped: bool) -> Any:
        c.llama_backend_init()
        parameters = c.llama_model_default_params()
        parameters.load_mode = c.LLAMA_LOAD_MODE_MMAP if mapped else c.LLAMA_LOAD_MODE_NONE
        parameters.n_gpu_layers = -1 if device == "cuda" else 0
        # Weights repacked for AMX are read by the code that is compiled wrongly.
        parameters.use_extra_bufts = not has_broken_amx()
        _complaints.clear()
        model = c.llama_model_load_from_file(str(path).encode(), parameters)
        if not model:
            raise InputError(
                "llama.cpp cannot load this file: " + "; ".join(_complaints), where=str(path)
            )
        return model

    def use_adapter(self, path: Path | None) -> None:
        """Put another adapter over the file, or none; those that were used stay loaded."""
        self._adapter = None if path is None else self._load_adapter(path)
        if self._context:
            self._put_adapter(self._context)
            c.llama_memory_clear(c.llama_get_memory(self._context), False)

    def _put_adapter(self, context: Any) -> None:
        one = (c.llama_adapter_lora_p_ctypes * 1)(self._adapter)
        c.llama_set_adapters_lora(context, one, int(bool(self._adapter)), (ctypes.c_float * 1)(1.0))

    def _load_adapter(self, path: Path) -> Any:
        if path in self._adapters:
            return self._adapters[path]
        check_gguf(path)
        _complaints.clear()
        adapter = c.llama_adapter_lora_init(self._model, str(path).encode())
        if not adapter:
            raise InputError(
                "llama.cpp cannot load this adapter: " + "; ".join(_complaints), where=str(path)
            )
        self._adapters[path] = adapter  # freed with the model
        return adapter

    def tokenize(self, text: str) -> list[int]:
        return self._tokenize(text, begins=False)

    def tokenize_prompt(self, text: str) -> list[int]:
        """Return the ids of a whole prompt as programs built on llama.cpp make them: with the
        begin token before it, where the file says that one is added."""
        return self._tokenize(text, begins=True)

    def _tokenize(self, text: str, begins: bool) -> list[int]:
        refuse_unknown(text, self._characters, str(self.path))
        raw = text.encode()
        count = -len(raw) - 8
        while count < 0:  # the room that is needed
            ids = (ctypes.c_int32 * -count)()
            count = c.llama_tokenize(self._vocab, raw, len(raw), ids, -count, begins, True)
        return ids[:count]

    def detokenize(self, ids: Sequence[int]) -> str:
        given, count = (ctypes.c_int32 * len(ids))(*ids), -16 * len(ids) - 16
        while count < 0:  # the room that is needed
            raw = ctypes.create_string_buffer(-count)
            count = c.llama_detokenize(self._vocab, given, len(ids), raw, -count, False, False)
        return raw.raw[:count].decode("utf-8", "replace")

    def render(self, messages: list[dict[str, str]], clock: str | None = None) -> str:
        source = c.llama_model_chat_template(self._model, None)
        special = {
            "bos_token": self._token_text(c.llama_vocab_bos(self._vocab)),
            "eos_token": self._token_text(c.llama_vocab_eos(self._vocab)),
        }
        text = source.decode() if source else None
        return render_template(text, messages, special, str(self.path), clock=clock)

    def _token_text(self, token: int) -> str:
        text = c.llama_vocab_get_text(self._vocab, token) if token >= 0 else b""
        return (text or b"").decode("utf-8", "replace")

    def stop_ids(self) -> list[int]:
        # The keys of the file, and what llama.cpp knows by its text (<|im_end|>, <|eot_id|>, …).
        return [i for i in range(self._vocab_size) if c.llama_vocab_is_eog(self._vocab, i)]

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        self._prepare(1, len(ids), exact=self._kv_type is None)
        tokens = np.asarray(ids, np.int32)
        return np.concatenate(
            [
                self.decode(tokens[first:last], np.arange(first, last), 0, 1).copy()
                for first, last in spans(len(tokens))
            ]
        )

    def logits_after(
        self, context: Sequence[int], branches: Sequence[Sequence[int]]
    ) -> Iterator[np.ndarray]:
        """Yield logits after a context and after each token of its branches, the context computed
        once; see :func:`edgetune.runtimes.likelihood.logits_after`."""
        exact = self._kv_type is None
        self._prepare(1, count_room(context, branches), exact)
        memory = Memory(self._context, exact and not self._is_recurrent)
        yield from logits_after(self.decode, memory, self._vocab_size, context, branches)

    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, stop_ids: Sequence[int]
    ) -> list[list[int]]:
        return self._generate(prompts, max_new_tokens, stop_ids)

    def sample(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, stop_ids: Sequence[int],
        sampling: Sampling,
    ) -> list[list[int]]:  # fmt: skip
        """Return what :meth:`generate` returns, drawn at random."""
        return self._generate(prompts, max_new_tokens, stop_ids, sampling)

    def _generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, stop_ids: Sequence[int],
        sampling: Sampling | None = None,
    ) -> list[list[int]]:  # fmt: skip
        if not prompts:
            return []
        length = max(map(len, prompts)) + max_new_tokens
        together = max(1, min(SEQUENCES, len(prompts), CACHE_TOKENS // length))
        self._prepare(together, length)
        groups = greedy.similar_length_groups(prompts, together)
        order = iter(groups)

        def start(some: greedy.Prompts) -> Sequences:
            return self._start(some, Picker(sampling, next(order)) if sampling else None)

        return greedy.generate(start, prompts, groups, max_new_tokens, stop_ids)

    def stream(self, prompt: Sequence[int], max_new_tokens: int) -> Iterator[int]:
        self._prepare(1, len(prompt) + max_new_tokens)
        return greedy.stream(self._start, prompt, max_new_tokens)

    def close(self) -> None:
        """Free the context, then the model under it."""
        if self._context:
            c.llama_free(self._context)
        if self._model:
            c.llama_model_free(self._model)
        self._context = self._model = None

    def _start(self, prompts: greedy.Prompts, picker: Picker | None = None) -> Sequences:
        c.llama_memory_clear(c.llama_get_memory(self._context), False)
        return Sequences(self.decode, prompts, picker)

    def _prepare(self, sequences: int, length: int, exact: bool = False) -> None:
        """Have an empty context with room for so many sequences of so many tokens each."""
        if self._model is None:
            raise EdgetuneError("this runtime is closed", where=str(self.path))
        has_sequences, has_length, was_exact = self._fits
        fits = has_sequences >= sequences and has_length >= length and was_exact == exact
        if self._context and not fits:
            c.llama_free(self._context)
            self._context = None
        if not self._context:
            length = -(-length // 256) * 256  # llama.cpp pads a sequence's cache to this anyway
            self._context = self._open_context(sequences, length, exact)
            self._fits = (sequences, length, exact)
        c.llama_memory_clear(c.llama_get_memory(self._context), False)

    def _open_context(self, sequences: int, length: int, exact: bool) -> Any:
        parameters = c.llama_context_default_params()
        parameters.n_ctx = sequences * length
        parameters.n_seq_max = sequences
        parameters.n_batch = parameters.n_ubatch = BATCH_TOKENS
        parameters.n_threads = parameters.n_threads_batch = self.threads
        if exact:
            parameters.n_ubatch = EXACT_BATCH_TOKENS
            parameters.type_k = parameters.type_v = c.GGML_TYPE_F32
            parameters.flash_attn_type = c.LLAMA_FLASH_ATTN_TYPE_DISABLED
            if not self._is_recurrent:  # room for branches, which share one cache with the context
                parameters.n_seq_max, parameters.kv_unified = 1 + TOGETHER, True
        if self._kv_type is not None:
            parameters.type_k = parameters.type_v = self._kv_type
            parameters.flash_attn_type = c.LLAMA_FLASH_ATTN_TYPE_ENABLED  # a packed V needs it
        _complaints.clear()
        context = c.llama_init_from_model(self._model, parameters)
        if not context:
            raise EdgetuneError(
                f"llama.cpp made no context of {sequences} x {length} tokens: "
                + "; ".join(_complaints),
                where=str(self.path),
                hint="shorter rows, or more memory",
            )
        if self._adapter:
            self._put_adapter(context)
        return context

    def decode(
        self, tokens: np.ndarray, positions: np.ndarray, sequences: Any, wanted: Any
    ) -> np.ndarray:
        """Run at most BATCH_TOKENS tokens; return the wanted logits, a view until the next call."""
        batch, count = self._batch, len(tokens)
        batch.token[:count] = tokens
        batch.position[:count] = positions
        batch.sequence[:count] = sequences
        batch.wanted[:count] = wanted
        batch.struct.n_tokens = count
        _complaints.clear()
        code = c.llama_decode(self._context, batch.struct)
        if code != 0:
            raise EdgetuneError(
                f"llama_decode returned {code} on {count} tokens: " + "; ".join(_complaints),
                where=str(self.path),
            )
        rows = int(batch.wanted[:count].sum())
        if rows == 0:
            return np.empty((0, self._vocab_size), np.float32)
        scores = c.llama_get_logits(self._context)
        return np.ctypeslib.as_array(scores, shape=(rows, self._vocab_size))
