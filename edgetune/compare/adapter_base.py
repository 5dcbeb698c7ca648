"""Compare an adapter of unknown training base over both NF4 and original weights.

Over NF4 weights and over the original ones an adapter is two models, and nothing in a foreign
adapter's files tells which one was trained. So the other model may be either; which of them it is
is in the verdict, with its KL to both.
"""

from __future__ import annotations

from dataclasses import replace

from edgetune.compare.checks import check_weights
from edgetune.compare.comparison import Check
from edgetune.compare.loaded import load_pair
from edgetune.compare.logits import GreedyAnswers, TokenizedText
from edgetune.compare.model_spec import ModelSpec
from edgetune.errors import Unsupported
from edgetune.models.training_base import DTYPES, TrainingBase

ASSUMED = "assumed: nothing says it"


def compare_on_both_bases(
    reference: ModelSpec, candidate: ModelSpec, check: Check, rows: list[TokenizedText]
) -> tuple[ModelSpec, ModelSpec, Check, str]:
    """Return both models, the uncertain one over the base that matches, its check and a note.

    Args:
        reference: the model compared with.
        candidate: the model evaluated; one of the two is an adapter whose training base is unknown,
            over the original weights.
        check: of the weights, measured with these.
        rows: the texts of that check.
    """
    first = reference.unsure
    original = (reference if first else candidate).over(TrainingBase(False, None, ASSUMED))
    tried: list[tuple[ModelSpec, Check]] = [(original, check)]
    named = reference.scheme if reference.scheme in DTYPES else "float32"
    for dtype in dict.fromkeys((named, *DTYPES)):
        over = original.over(TrainingBase(True, dtype, ASSUMED))
        pair = (over, candidate) if first else (reference, over)
        try:
            with load_pair(*pair) as models:
                tried.append((over, check_weights(*models, rows, GreedyAnswers())))
        except Unsupported as error:  # PiSSA and its kind change the base: no one trains that
            remark = f"trained over the original weights, since it cannot be of NF4: {error.what}"
            return (
                (original, candidate, check, remark)
                if first
                else (reference, original, check, remark)
            )
        if any(one.ok for _, one in tried):  # the bases differ by far more than the dtypes
            break
    subject, best = min(tried, key=lambda one: _kl(one[1]))
    nf4 = min(tried[1:], key=lambda one: _kl(one[1]))
    kls = {"kl_over_original": _kl(check), "kl_over_nf4": _kl(nf4[1])}
    figures = {**(check if subject is original else best).figures, **kls}
    remark = (
        f"nothing says whether the adapter was trained over NF4 weights (QLoRA) or the original "
        f"ones. KL is {_kl(nf4[1]):.2e} over NF4 and {_kl(check):.2e} over the original; "
        f"{'NF4 is' if subject is not original else 'the original weights are'} assumed. Say which "
        "with BASE@nf4+ADAPTER or BASE@original+ADAPTER"
    )
    best = replace(best, figures=figures)
    return (subject, candidate, best, remark) if first else (reference, subject, best, remark)


def _kl(check: Check) -> float:
    return float(check.figures["kl_mean"])
