"""The GGUF file that an adapter is trained over: loaded, and asked whether llama.cpp agrees.

Names, shapes and settings of another model are refused by :mod:`edgetune.models.gguf_match`. What
those do not tell, such as rows in another order, shows in the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from edgetune.data.encode import Encoder
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.hardware import count_threads
from edgetune.runtimes.isolated import Isolated

ROWS, TOKENS = 4, 128  # that are compared
#: Nats per token. Activations of 8 bits cost real models 1e-3 to 1e-2; a file of other weights more
#: than 1.
LARGEST_KL = 0.2


def check_base_file(
    model: Any, path: Path, encoder: Encoder, rows: Sequence[Sequence[int]], log: Log
) -> float:
    """Compare llama.cpp's logits of a GGUF file with those of the model that was made of it.

    Args:
        model: over the file's weights, without an adapter.
        path: the file, opened in a process of its own.
        encoder: of the training; a file that does not stop at its end token is warned of.
        rows: token ids; the first of them are asked.
        log: told the result.

    Returns:
        Mean KL(torch || llama.cpp), nats per token.

    Raises:
        InputError: llama.cpp cannot load the file, or the two are different models.
    """
    runtime = Isolated(path, count_threads())
    try:
        stops = runtime.stop_ids()
        found = [_compare(model, runtime, row[:TOKENS]) for row in rows[:ROWS]]
    finally:
        runtime.close()
    kl = float(torch.cat(found).mean())
    if not kl <= LARGEST_KL:
        raise InputError(
            f"llama.cpp and torch make other models of this file: their KL is {kl:.2g} nats per "
            f"token, where {LARGEST_KL} is too much",
            where=str(path),
            hint="name in model.path the Hugging Face folder that the file was made of",
        )
    log.say(f"{path.name} in llama.cpp: KL {kl:.1e} to the same weights in torch")
    if encoder.end_id not in stops:
        token = encoder.tokenizer.convert_ids_to_tokens(encoder.end_id)
        log.warn(
            f"clients of {path.name} do not stop at {token}, which ends the answers here: name it "
            "as a stop word there, or set tune.end_token to a token that the file stops at"
        )
    return kl


def _compare(model: Any, runtime: Isolated, ids: Sequence[int]) -> torch.Tensor:
    """Return KL(torch || llama.cpp) at each position of a row."""
    ids = [int(one) for one in ids]
    with torch.no_grad():
        ids_BT = torch.tensor([ids], device=model.device)
        ours_TV = model(input_ids=ids_BT, use_cache=False).logits[0].double().cpu()
    theirs_TV = torch.from_numpy(runtime.logits(ids).astype("float64"))
    if theirs_TV.shape != ours_TV.shape:
        raise InputError(
            f"llama.cpp scores {theirs_TV.shape[-1]} tokens and the model {ours_TV.shape[-1]}",
            where=str(runtime.path),
        )
    p_TV, q_TV = ours_TV.log_softmax(-1), theirs_TV.log_softmax(-1)
    kl_T: torch.Tensor = (p_TV.exp() * (p_TV - q_TV)).sum(-1)
    return kl_T
