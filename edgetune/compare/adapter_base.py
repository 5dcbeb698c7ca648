"""An adapter that does not say on what it was trained: both bases are asked.

Over NF4 weights and over the original ones an adapter is two models, and nothing in a foreign
adapter's files tells which one was trained. So the other model may be either; which of them it is
stands in the verdict, beside its KL to both.
"""

from __future__ import annotations

from dataclasses import replace

from edgetune.compare.checks import check_weights
from edgetune.compare.comparison import Check
from edgetune.compare.loaded import open_sides
from edgetune.compare.logits import Answers, Judged
from edgetune.compare.model_spec import Subject
from edgetune.errors import Unsupported
from edgetune.models.training_base import DTYPES, TrainingBase

ASSUMED = "assumed: nothing says it"


def ask_both_bases(
    a: Subject, b: Subject, check: Check, rows: list[Judged]
) -> tuple[Subject, Subject, Check, str]:
    """Return both models, the unsure one on the base that fits, its check, and what to say of it.

    Args:
        a: the model that should be the other.
        b: the model on trial; one of them is an adapter over the original weights, unsure of them.
        check: of the weights, measured with these.
        rows: what they were judged on.
    """
    first = a.unsure
    original = (a if first else b).over(TrainingBase(False, None, ASSUMED))
    tried: list[tuple[Subject, Check]] = [(original, check)]
    named = a.scheme if a.scheme in DTYPES else "float32"
    for dtype in dict.fromkeys((named, *DTYPES)):
        over = original.over(TrainingBase(True, dtype, ASSUMED))
        pair = (over, b) if first else (a, over)
        try:
            with open_sides(*pair) as sides:
                tried.append((over, check_weights(*sides, rows, Answers())))
        except Unsupported as error:  # PiSSA and its kind change the base: no one trains that
            said = f"trained over the original weights, since it cannot be of NF4: {error.what}"
            return (original, b, check, said) if first else (a, original, check, said)
        if any(one.ok for _, one in tried):  # the bases differ by far more than the dtypes
            break
    subject, best = min(tried, key=lambda one: _kl(one[1]))
    over = min(tried[1:], key=lambda one: _kl(one[1]))
    kls = {"kl_over_original": _kl(check), "kl_over_nf4": _kl(over[1])}
    figures = {**(check if subject is original else best).figures, **kls}
    said = (
        f"nothing says whether the adapter was trained over NF4 weights (QLoRA) or the original "
        f"ones. KL is {_kl(over[1]):.2e} over NF4 and {_kl(check):.2e} over the original; "
        f"{'NF4 is' if subject is not original else 'the original weights are'} assumed. Say which "
        "with BASE@nf4+ADAPTER or BASE@original+ADAPTER"
    )
    best = replace(best, figures=figures)
    return (subject, b, best, said) if first else (a, subject, best, said)


def _kl(check: Check) -> float:
    return float(check.figures["kl_mean"])
