"""A reward model: a causal model with a head that gives one score for a prompt with its answer.

The head lies where ``AutoModelForSequenceClassification`` has it, as ``score``: saved with an
adapter it is one of PEFT's ``modules_to_save``, and the adapter's task is ``SEQ_CLS``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from peft.utils.other import ModulesToSaveWrapper
from safetensors import safe_open
from transformers.modeling_outputs import SequenceClassifierOutput

from edgetune.errors import InputError
from edgetune.models.batching import batch_sequences, device_of, unmasked
from edgetune.models.checkpoint import Checkpoint
from edgetune.models.lineage import ADAPTER
from edgetune.models.load import keep_factors_float32, load_weights
from edgetune.models.lora_config import check_adapter_file
from edgetune.models.ref import ModelRef

SCORE = "score"  # transformers' name of the head
_TENSOR = f"{SCORE}.weight"


def add_reward_head(model: Any, seed: int) -> None:
    """Give a causal model a head for one score, which is trained and saved with its adapter.

    Afterwards the model returns scores [B, 1] in place of logits: of the last token that the
    attention mask shows, which ends the answer. An adapter that has such a head keeps it.

    Args:
        model: whole, or with an adapter of PEFT.
        seed: fixes the head's initial weights.
    """
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    if not hasattr(base, SCORE):
        head: Any = _make_head(base, seed)
        if base is not model:
            (name,) = model.peft_config
            config = model.peft_config[name]
            config.modules_to_save = [*(config.modules_to_save or []), SCORE]
            config.task_type = "SEQ_CLS"
            head = ModulesToSaveWrapper(head, name)  # type: ignore[no-untyped-call]
        base.add_module(SCORE, head)
    base.config.num_labels = 1
    _score_answers(base)


def _make_head(base: Any, seed: int) -> torch.nn.Linear:
    """Return a head with transformers' initial weights, in float32."""
    config = base.config.get_text_config()
    head = torch.nn.Linear(config.hidden_size, 1, bias=False)
    generator = torch.Generator().manual_seed(seed)
    spread = float(getattr(config, "initializer_range", 0.02))
    torch.nn.init.normal_(head.weight, std=spread, generator=generator)
    return head.to(base.device)


def _score_answers(base: Any) -> None:
    """Let a causal model return scores in place of logits."""

    def forward(
        input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any
    ) -> SequenceClassifierOutput:
        real_BT = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        inputs = unmasked({"input_ids": input_ids, "attention_mask": real_BT})
        hidden_BTD = base.base_model(**inputs, use_cache=False).last_hidden_state
        last_B = real_BT.sum(-1) - 1
        hidden_BD = hidden_BTD[torch.arange(len(last_B), device=last_B.device), last_B]
        return SequenceClassifierOutput(logits=getattr(base, SCORE)(hidden_BD.float()))

    base.forward = forward


def load_reward(ref: ModelRef, dtype: str = "float32", device: str = "cpu") -> Any:
    """Load a reward model in eval mode; it returns scores [B, 1].

    Raises:
        InputError: a model without a head that scores.
    """
    model: Any = load_weights(ref, dtype, device)
    model.add_module(SCORE, _make_head(model, 0))
    folder = ref.adapter or ref.base
    weight_1D = _read_head(folder)
    base, head = model, getattr(model, SCORE)
    if ref.adapter is not None:
        check_adapter_file(ref.adapter)
        model = PeftModel.from_pretrained(model, str(ref.adapter))
        keep_factors_float32(model)
        head = getattr(base, SCORE).modules_to_save[model.active_adapters[0]]
    head.weight.data = weight_1D.to(head.weight.device)
    base.config.num_labels = 1
    _score_answers(base)
    model.eval()
    return model


def _read_head(folder: Path) -> torch.Tensor:
    """Return the weights of the head that lies in a folder, float32 [1, D]."""
    adapter = folder / ADAPTER
    for path in [adapter] if adapter.is_file() else Checkpoint(folder).files:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                if name == _TENSOR or name.endswith(f".{_TENSOR}"):
                    found: torch.Tensor = file.get_tensor(name).float()
                    return found
    raise InputError(
        f"no tensor '{_TENSOR}': this model scores no answers",
        where=str(folder),
        hint="train one with tune.objective: reward",
    )


def score_sequences(model: Any, sequences: Sequence[Sequence[int]], bar: Any = None) -> np.ndarray:
    """Return the score of each prompt with its answer, float32 [sequences].

    Args:
        model: a reward model; it is asked in eval mode, without gradients.
        sequences: token ids, in any order.
        bar: is told of the tokens that are done.
    """
    found = np.zeros(len(sequences), np.float32)
    device, was_training = device_of(model), model.training
    model.eval()
    try:
        for numbers, ids_BT, real_BT in batch_sequences(sequences):
            with torch.no_grad():
                scores_B1 = model(
                    input_ids=ids_BT.to(device), attention_mask=real_BT.long().to(device)
                ).logits
            found[numbers] = scores_B1[:, 0].float().cpu().numpy()
            if bar is not None:
                bar.update(sum(len(sequences[number]) for number in numbers))
    finally:
        model.train(was_training)
    return found
