"""The greedy margin of the end token: can a model with a frozen head learn to generate it?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.head import head_formula
from edgetune.ops.linear_loss import Head

# Lead over the next token, in nats, at the hidden state that favours a token most.
REACHABLE = 1.0
#: Of the lead that ordinary tokens have: narrow heads of many tokens lead by less than REACHABLE
#: everywhere, and a token never trained by a small part of what the others do.
USUAL_SHARE = 0.5
USUAL_TOKENS = 32  # of which the usual lead is measured
USUAL_QUANTILE = 0.9  # half of a trained head's tokens lead nowhere: rare and untrained ones
CHUNK_ROWS = 8192  # of the head that are float32 at a time
MEAN_ROWS = 8192  # evenly taken, of which a large head's mean is

# The last normalisation, by what families call it.
_NORMS = {
    "norm", "ln_f", "final_layernorm", "final_layer_norm", "final_norm", "norm_f",
    "embedding_norm", "ln_out",
}  # fmt: skip


@torch.no_grad()
def greedy_margin(model: PreTrainedModel, ids: Sequence[int]) -> torch.Tensor:
    """Return each token's lead over all others where it is favoured most, in nats; shape [N].

    LoRA leaves the head and the embedding as they are, so a token whose head row was never trained
    cannot become likely however the layers are tuned. The hidden state that favours a token most is
    taken as the one along its own centred head row that the final normalisation can give. A token
    that another one beats even there (a lead of 0 or less) is never said greedily.

    The head is read once for all N, whatever its dtype; nothing of its size is made.
    """
    head = head_formula(model)
    weight_VH = head.weight_VD.detach()
    at = torch.tensor(list(ids), device=weight_VH.device)
    step = max(1, len(weight_VH) // MEAN_ROWS)
    centred_NH = weight_VH[at].float() - weight_VH[::step].float().mean(0)
    hidden_NH = _favoured(model, centred_NH)
    said_N = _score(head, hidden_NH, at)
    most_N = torch.full_like(said_N, -torch.inf)
    for start in range(0, len(weight_VH), CHUNK_ROWS):
        rows = torch.arange(start, min(start + CHUNK_ROWS, len(weight_VH)), device=at.device)
        logits_NC = hidden_NH @ weight_VH[start : start + CHUNK_ROWS].float().T
        if head.bias_V is not None:
            logits_NC += head.bias_V.detach()[start : start + CHUNK_ROWS].float()
        logits_NC.masked_fill_(rows == at[:, None], -torch.inf)
        most_N = torch.maximum(most_N, logits_NC.amax(-1))
    # Scale and cap keep the order: what leads before them leads behind them, by less.
    return (_finish(head, said_N) - _finish(head, most_N)).cpu()


def _score(head: Head, hidden_NH: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    own_N = (hidden_NH * head.weight_VD.detach()[at].float()).sum(-1)
    return own_N if head.bias_V is None else own_N + head.bias_V.detach()[at].float()


def _finish(head: Head, logits_N: torch.Tensor) -> torch.Tensor:
    scaled_N: torch.Tensor = logits_N * head.scale
    return head.cap * torch.tanh(scaled_N / head.cap) if head.cap else scaled_N


def _favoured(model: PreTrainedModel, rows_NH: torch.Tensor) -> torch.Tensor:
    """Return what the final normalisation makes of the states that favour head rows most.

    Its gain is measured, because families write it differently: Gemma's is 1 + weight.
    """
    norm, size = final_norm(model), rows_NH.shape[1]
    if norm is None:
        return torch.nn.functional.normalize(rows_NH, dim=1) * math.sqrt(size)

    def run(states: torch.Tensor) -> torch.Tensor:
        dtype = next((p.dtype for p in norm.parameters()), torch.float32)
        found: torch.Tensor = norm(states.to(rows_NH.device, dtype))
        return found.float()

    # Of mean 0 and mean square 1: normalising changes nothing, so what changes is gain and bias.
    probe_H = 1.0 - 2.0 * (torch.arange(size) % 2)
    gain_H = (run(probe_H) - run(-probe_H)) / 2 * probe_H.to(rows_NH.device)
    best_NH = torch.nn.functional.normalize(rows_NH * gain_H, dim=1) * math.sqrt(size)
    return run(best_NH)


def final_norm(model: PreTrainedModel) -> torch.nn.Module | None:
    """Return the normalisation before the head, or none where none is known by its name."""
    found = [
        module
        for name, module in model.base_model.named_modules()
        if name.rpartition(".")[2] in _NORMS and not any(part.isdigit() for part in name.split("."))
    ]
    return found[-1] if found else None


def choose_end_token(
    model: PreTrainedModel, tokenizer: Any, wanted: str | None, usual: str | None, log: Log
) -> str:
    """Return the token that will end answers.

    Args:
        model: whose head says it.
        tokenizer: whose special tokens are candidates.
        wanted: the recipe's; obeyed, with a warning if its greedy margin is too small.
        usual: the template's or the tokenizer's; taken if its greedy margin is large enough, else
            the special token of the largest margin is, with a warning.
        log: gets the warnings.

    Raises:
        InputError: ``wanted`` is unknown, or no special token has a margin.
    """
    specials = [token for token in tokenizer.all_special_tokens if token != tokenizer.unk_token]
    if wanted and wanted not in tokenizer.get_vocab():
        raise InputError(
            f"'{wanted}' is not a token of this tokenizer",
            where="tune.end_token",
            hint=f"its special tokens: {', '.join(specials)}",
        )
    leads = _Leads(model, tokenizer)
    name = wanted or usual
    if name is not None and leads.enough([name]):
        return str(name)
    lead = leads.of([name])[name] if name else 0.0
    why = f"its head row was never trained (lead {lead:.2f} nats)" if name else "none named"
    if wanted:
        log.warn(f"'{wanted}' may never be learned as the end of an answer: {why}")
        return wanted
    best: str | None = max(specials, key=leads.of(specials).__getitem__, default=None)
    if best is None or not leads.enough([best]):
        raise InputError(
            f"no special token can be learned as the end of an answer; '{name}': {why}",
            where="tune.end_token",
            hint="name a token in tune.end_token, or train all weights (tune.method: full)",
        )
    log.warn(f"'{name}' cannot be learned as the end of an answer: {why}; '{best}' ends them")
    return best


class _Leads:
    """Leads of tokens by name, each computed once, and what they are measured by."""

    def __init__(self, model: PreTrainedModel, tokenizer: Any) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._known: dict[str, float] = {}

    def of(self, names: Sequence[str]) -> dict[str, float]:
        """Return each name's lead; −∞ of a token that the head has no row for."""
        size = len(self._model.get_output_embeddings().weight)
        ids = {name: int(self._tokenizer.convert_tokens_to_ids(name)) for name in names}
        new = [name for name, id in ids.items() if name not in self._known and id < size]
        if new:
            found = greedy_margin(self._model, [ids[name] for name in new]).tolist()
            self._known.update(zip(new, found, strict=True))
        return {name: self._known.get(name, float("-inf")) for name in names}

    def enough(self, names: Sequence[str]) -> bool:
        """Whether all can be learned: by nats, or by what is usual in this head."""
        lead = min(self.of(names).values())
        return lead >= REACHABLE or 0 < lead >= USUAL_SHARE * self._usual()

    def _usual(self) -> float:
        size = len(self._model.get_output_embeddings().weight)
        some = range(0, size, max(1, size // USUAL_TOKENS))
        return float(greedy_margin(self._model, some).clamp(min=0).quantile(USUAL_QUANTILE))
