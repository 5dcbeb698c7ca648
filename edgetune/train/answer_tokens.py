"""Whether an adapter can learn to write the tokens that the answers are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgetune.data.answer_tokens import often_in_answers
from edgetune.models.adapter_modules import trains_head
from edgetune.models.untrained_tokens import find_alike
from edgetune.train.objectives import OBJECTIVES
from edgetune.train.tuning_step import Tuning

ROWS = 2_000  # of train, evenly taken
NAMED = 5


def warn_of_untrained(tuning: Tuning) -> list[str]:
    """Warn of tokens in many answers that the base was never trained on, and return their texts.

    With a frozen head they stay alike (:mod:`edgetune.models.untrained_tokens`): the loss falls,
    and the answers come out with one of them where another belongs. The unknown token and that
    which ends answers have warnings of their own.
    """
    section, model = tuning.section, tuning.model
    supervised = OBJECTIVES[section.objective].rows in ("sft", "text")
    if section.method == "full" or not supervised or trains_head(model, section):
        return []
    every = tuning.rows.train
    some = every.select(np.arange(0, len(every), max(1, len(every) // ROWS)))
    log = tuning.run.log
    encoded = tuning.rows.encode("train", tuning.encoder, log.muted(), "skip", some).encoded
    often = often_in_answers(encoded)
    often.pop(tuning.tokenizer.unk_token_id, None)
    often.pop(tuning.encoder.end_id, None)
    alike = find_alike(model.get_output_embeddings().weight, list(often))
    texts = [_show(tuning.tokenizer, token) for token in alike]
    if texts:
        more = f" and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
        most = max(often[token] for token in alike) / len(encoded)
        log.warn(
            f"the base was never trained on {', '.join(texts[:NAMED])}{more}, which up to "
            f"{most:.0%} of the answers have: with a frozen head the model cannot learn to write "
            "one rather than another; train it too "
            f"(tune.modules_to_save: {_name_ends(model)}) or all weights (tune.method: full)"
        )
    return texts


def _show(tokenizer: Any, token: int) -> str:
    """Return a token as people read it; its name where it is no whole character."""
    text = tokenizer.decode([token])
    return repr(text if text.strip() and "\ufffd" not in text
                else tokenizer.convert_ids_to_tokens(token))  # fmt: skip


def _name_ends(model: Any) -> str:
    """Return the names of embedding and head as ``modules_to_save`` takes them."""
    names = {id(one): name.rpartition(".")[2] for name, one in model.named_modules()}
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return f"[{', '.join(names[id(one)] for one in ends)}]"
