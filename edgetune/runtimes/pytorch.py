"""Hugging Face models in torch: what was trained, as transformers runs it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutput

from edgetune.errors import Unsupported
from edgetune.models.adapters import fold_float32
from edgetune.models.batching import batch_sequences, replaced_forward
from edgetune.models.compute_dtype import choose_dtype
from edgetune.models.hardware import trim_malloc
from edgetune.models.head import find_head, hidden_at
from edgetune.models.load import load_model
from edgetune.models.offload import keep_head_in_memory
from edgetune.models.ref import ModelRef
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.ops.linear_loss import Head
from edgetune.runtimes import count_together, greedy
from edgetune.runtimes.sampling import Picker, Sampling
from edgetune.runtimes.template import render_template
from edgetune.runtimes.text import TextGeneration
from edgetune.runtimes.torch_branches import logits_after

SEQUENCES = 64  # decoded together, at most


class Torch(TextGeneration):
    """A model folder, perhaps with an adapter; see :class:`edgetune.runtimes.Runtime`.

    Weights are float32 on CPU, so that nothing is lost but what the file lost, and bfloat16 on
    CUDA, as models are served there, unless ``dtype`` names another.
    """

    name = "torch"

    def __init__(
        self, ref: ModelRef, threads: int, device: str = "cpu", dtype: str | None = None
    ) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise Unsupported("no CUDA device here", where=str(ref.base), hint="use --device cpu")
        torch.set_num_threads(threads)
        self.ref, self.threads, self.device = ref, threads, device
        self._tokenizer: Any = load_tokenizer(ref.base)
        if dtype is None:
            dtype = choose_dtype("auto", device).name if device == "cuda" else "float32"
            self._model: Any = load_model(ref, dtype, device)
        else:  # NF4 layers are unpacked on the CPU, and so keep their values in that dtype
            self._model = load_model(ref, dtype)
            self._model.to(device)

    def tokenize(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def tokenize_prompt(self, text: str) -> list[int]:
        """Return the ids of a whole prompt, with the special tokens that its tokenizer adds."""
        return list(self._tokenizer(text)["input_ids"])

    def detokenize(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def render(self, messages: list[dict[str, str]], clock: str | None = None) -> str:
        source = self._tokenizer.chat_template
        special = self._tokenizer.special_tokens_map
        return render_template(source, messages, special, str(self.ref.base), clock=clock)

    def stop_ids(self) -> list[int]:
        found = self._model.generation_config.eos_token_id
        if found is None:
            return []
        return [int(one) for one in found] if isinstance(found, list) else [int(found)]

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        with torch.inference_mode():
            ids_BT = torch.tensor([list(ids)], device=self.device)
            logits_BTV = self._model(input_ids=ids_BT, use_cache=False).logits
            scores: np.ndarray = logits_BTV[0].float().cpu().numpy()
        return scores

    def logits_after(
        self, context: Sequence[int], branches: Sequence[Sequence[int]]
    ) -> Iterator[np.ndarray]:
        """Yield logits after a context and after each token of its branches, the context computed
        once; see :func:`edgetune.runtimes.likelihood.logits_after`."""
        return logits_after(self._model, self.device, context, branches)

    def head(self) -> Head | None:
        """Return what makes logits of the hidden states of :meth:`hidden_at`, if that is known."""
        return find_head(self._model)

    def hidden_at(self, ids: Sequence[int], positions: Sequence[int]) -> np.ndarray:
        """Return the last hidden states at positions of a sequence, float32 ``[P, D]``."""
        with torch.inference_mode():
            ids_BT = torch.tensor([list(ids)], device=self.device)
            chosen_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
            chosen_BT[0, list(positions)] = True
            hidden_PD: np.ndarray = (
                hidden_at(self._model, chosen_BT, input_ids=ids_BT).float().cpu().numpy()
            )
        return hidden_PD

    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, stop_ids: Sequence[int]
    ) -> list[list[int]]:
        return generate(self._model, prompts, max_new_tokens, stop_ids)

    def sample(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, stop_ids: Sequence[int],
        sampling: Sampling,
    ) -> list[list[int]]:  # fmt: skip
        """Return what :meth:`generate` returns, drawn at random."""
        return generate(self._model, prompts, max_new_tokens, stop_ids, sampling)

    def stream(self, prompt: Sequence[int], max_new_tokens: int) -> Iterator[int]:
        return greedy.stream(self._start, prompt, max_new_tokens)

    def close(self) -> None:
        """Drop the model; its memory is torch's to free."""
        self._model = None

    def _start(self, prompts: greedy.Prompts) -> _Sequences:
        return _Sequences(self._model, prompts, self.device)


def open_rounded(ref: ModelRef, dtype: str, threads: int) -> Torch:
    """Load a model with its adapter merged and its weights rounded to ``dtype``, on CPU.

    It computes in float32, as a right folder of that dtype does.
    """
    runtime = Torch(ref, threads)
    runtime._model = fold_float32(runtime._model)
    with torch.no_grad():
        for parameter in runtime._model.parameters():
            parameter.data = parameter.data.to(getattr(torch, dtype)).float()
    return runtime


class Streamed(Torch):
    """A model folder too large to be held in float32: its weights are read for every pass.

    A row at a time it is slow; :meth:`logits_of` reads the weights once for thousands of tokens.
    """

    def __init__(self, folder: Path, model: Any, threads: int) -> None:
        torch.set_num_threads(threads)
        self.ref, self.threads, self.device = ModelRef(folder), threads, "cpu"
        self._tokenizer, self._model = load_tokenizer(folder), model
        self._output: Any = BaseModelOutput
        self._hidden: list[torch.Tensor] = []
        self._asked: list[tuple[list[int], list[int]]] = []

    def logits_of(self, sequences: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
        """Yield float32 ``[T, V]`` for each sequence: the layers for all, then the head for each.

        The head stays in memory from then on.
        """
        for hidden_TD in self._decode(sequences):
            yield self._head(hidden_TD)

    def logits_at(
        self, sequences: Sequence[Sequence[int]], positions: Sequence[Sequence[int]]
    ) -> Iterator[np.ndarray]:
        """Yield logits at some positions; see :func:`edgetune.runtimes.logits_at`.

        Hidden states are kept: asked of the same positions again, only the head is computed.
        """
        asked = [(list(ids), list(at)) for ids, at in zip(sequences, positions, strict=True)]
        if self._asked != asked:
            self._hidden, self._asked = self._decode(sequences, positions), asked
        for hidden_PD in self._hidden:
            step = count_together(self._model.get_output_embeddings().weight.shape[0])
            for block_PD in hidden_PD.split(step):
                yield self._head(block_PD)

    def head(self) -> Head | None:
        """Return none: it is read from disk."""
        return None

    def close(self) -> None:
        self._hidden, self._asked = [], []
        super().close()

    @torch.inference_mode()
    def _decode(
        self,
        sequences: Sequence[Sequence[int]],
        positions: Sequence[Sequence[int]] | None = None,
    ) -> list[torch.Tensor]:
        """Return the last hidden states ``[T, D]`` of each sequence, or ``[P, D]`` of some."""
        trim_malloc()
        hidden: dict[int, torch.Tensor] = {}
        for numbers, ids_BT, real_BT in batch_sequences(sequences):
            output = self._model.base_model(input_ids=ids_BT, use_cache=False)
            self._output = type(output)
            for number, hidden_TD, real_T in zip(numbers, output[0], real_BT, strict=True):
                kept = real_T if positions is None else list(positions[number])
                hidden[number] = hidden_TD[kept]
        keep_head_in_memory(self._model)
        return [hidden[number] for number in range(len(sequences))]

    def _head(self, hidden_TD: torch.Tensor) -> np.ndarray:
        """Return the logits of last hidden states ``[T, D]``."""
        found = self._output(last_hidden_state=hidden_TD[None])
        with replaced_forward(self._model.base_model, lambda *_, **__: found):
            return self.logits([0] * len(hidden_TD))


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    stop_ids: Sequence[int],
    sampling: Sampling | None = None,
) -> list[list[int]]:
    """Return each prompt's continuation by a model in eval mode, without the stop id.

    It is greedy unless ``sampling`` says how tokens are drawn.
    """
    device = next(model.parameters()).device.type
    # Prompts of several lengths are padded on the left where the model takes positions.
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    pads = "position_ids" in inspect.signature(plain.forward).parameters
    group = greedy.similar_length_groups if pads else greedy.equal_length_groups
    groups = group(prompts, SEQUENCES)
    order = iter(groups)

    def start(together: greedy.Prompts) -> _Sequences:
        picker = Picker(sampling, next(order)) if sampling else None
        return _Sequences(model, together, device, picker)

    return greedy.generate(start, prompts, groups, max_new_tokens, stop_ids)


class _Sequences:
    """Prompts continued together: a :class:`edgetune.runtimes.greedy.Decoder`."""

    def __init__(
        self, model: Any, prompts: greedy.Prompts, device: str, picker: Picker | None = None
    ) -> None:
        self._model, self._picker = model, picker
        self._cache = DynamicCache(config=model.config.get_text_config())
        longest = max(map(len, prompts))
        ids_BT = torch.zeros((len(prompts), longest), dtype=torch.long)
        mask_BT = torch.zeros_like(ids_BT)
        for row, prompt in enumerate(prompts):
            ids_BT[row, longest - len(prompt) :] = torch.tensor(list(prompt))
            mask_BT[row, longest - len(prompt) :] = 1
        # Without padding nothing is said of mask and positions: one path for every kind of model.
        self._mask_BT = None if bool(mask_BT.all()) else mask_BT.to(device)
        self._next_B: torch.Tensor
        self._feed(ids_BT.to(device))

    def advance(self, keep: list[int]) -> None:
        if self._picker:
            self._picker.keep(keep)
        if len(keep) < len(self.tokens):
            with torch.inference_mode():
                kept = torch.tensor(keep, device=self._next_B.device)
                self._cache.batch_select_indices(kept)
                self._next_B = self._next_B[kept]
                if self._mask_BT is not None:
                    self._mask_BT = self._mask_BT[kept]
        if self._mask_BT is not None:
            self._mask_BT = torch.nn.functional.pad(self._mask_BT, (0, 1), value=1)
        self._feed(self._next_B[:, None])

    @torch.inference_mode()
    def _feed(self, ids_BT: torch.Tensor) -> None:
        padded = {}
        if self._mask_BT is not None:
            positions_BT = (self._mask_BT.cumsum(dim=1) - 1).clamp(min=0)
            padded["attention_mask"] = self._mask_BT
            padded["position_ids"] = positions_BT[:, -ids_BT.shape[1] :]
        output = self._model(
            input_ids=ids_BT,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
            **padded,
        )
        scores_BV = output.logits[:, -1]
        if self._picker:
            drawn = self._picker.pick(scores_BV.float().cpu().numpy())
            self._next_B = torch.tensor(drawn, device=scores_BV.device)
        else:
            self._next_B = scores_BV.argmax(dim=-1)
        self.tokens: list[int] = self._next_B.tolist()
