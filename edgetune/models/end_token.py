"""Can the model learn to say its end token? With a frozen head, only if that token is in reach."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from edgetune.errors import InputError
from edgetune.log import Log

# Lead over the next token, in nats, at the hidden state that favours a token most.
REACHABLE = 1.0


def reach(model: PreTrainedModel) -> torch.Tensor:
    """Return every token's lead over all others where it is favoured most, in nats; shape [V].

    LoRA leaves the head and the embedding as they are, so a token whose head row was never trained
    cannot become likely however the layers are tuned. The hidden state that favours a token most is
    taken as the one along its own centred head row, with the norm that the final layer norm gives.
    A token that another one beats even there (a lead of 0 or less) is never said greedily.
    """
    head_VH = model.get_output_embeddings().weight.detach().float()
    gain_H = final_norm_gain(model).to(head_VH.device)
    centred_VH = head_VH - head_VH.mean(0)
    rows_VH = centred_VH * gain_H
    hidden = head_VH.shape[1] ** 0.5
    best_VH = rows_VH / rows_VH.norm(dim=1, keepdim=True).clamp(min=1e-12) * hidden * gain_H
    found = torch.empty(head_VH.shape[0])
    for start in range(0, len(best_VH), 1024):  # never [V, V] at once
        logits = best_VH[start : start + 1024] @ head_VH.T
        own = torch.arange(len(logits), device=logits.device)
        said = logits[own, start + own]
        logits[own, start + own] = -torch.inf
        found[start : start + len(logits)] = (said - logits.amax(-1)).cpu()
    return found


def final_norm_gain(model: PreTrainedModel) -> torch.Tensor:
    """Return the scale of the last normalisation before the head; shape [H]."""
    gains = [
        module.weight.detach().float()
        for name, module in model.base_model.named_modules()
        if name in ("norm", "ln_f", "final_layernorm", "model.norm")
        and getattr(module, "weight", None) is not None
    ]
    hidden = model.get_output_embeddings().weight.shape[1]
    return gains[-1] if gains else torch.ones(hidden)


def choose_end_token(
    model: PreTrainedModel, tokenizer: Any, wanted: str | None, usual: str | None, log: Log
) -> str:
    """Return the token that will end answers.

    Args:
        model: whose head says it.
        tokenizer: whose special tokens are candidates.
        wanted: the recipe's; obeyed, with a warning if it is out of reach.
        usual: the template's or the tokenizer's; taken if it is in reach, else the special token
            most in reach is, with a warning.
        log: gets the warnings.

    Raises:
        InputError: ``wanted`` is unknown, or no special token is in reach.
    """
    specials = [token for token in tokenizer.all_special_tokens if token != tokenizer.unk_token]
    if wanted and wanted not in tokenizer.get_vocab():
        raise InputError(
            f"'{wanted}' is not a token of this tokenizer",
            where="tune.end_token",
            hint=f"its special tokens: {', '.join(specials)}",
        )
    reachable = reach(model)

    def lead(token: str) -> float:
        return float(reachable[tokenizer.convert_tokens_to_ids(token)])

    name = wanted or usual
    if name is not None and lead(name) >= REACHABLE:
        return str(name)
    why = f"its head row was never trained (lead {lead(name):.2f} nats)" if name else "none named"
    if wanted:
        log.warn(f"'{wanted}' may never be learned as the end of an answer: {why}")
        return wanted
    best = max(specials, key=lead, default=None)
    if best is None or lead(best) < REACHABLE:
        raise InputError(
            f"no special token can be learned as the end of an answer; '{name}': {why}",
            where="tune.end_token",
            hint="name a token in tune.end_token, or train all weights (tune.method: full)",
        )
    log.warn(f"'{name}' cannot be learned as the end of an answer: {why}; '{best}' ends them")
    return best
