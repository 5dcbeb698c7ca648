"""What bench measured, in lines for the person who waits."""

from __future__ import annotations

from collections.abc import Sequence

from edgetune.data.canary import CONTROLS
from edgetune.facts import MeasuredModel
from edgetune.log import counted
from edgetune.measure.memorization import expected_exposure
from edgetune.measure.subject import Workload


def tell_long_answers(workload: Workload, max_new_tokens: int) -> list[str]:
    """Return a sentence where right answers are longer than any that a model may give."""
    tokenizer = workload.encoder.tokenizer
    texts = list(workload.expected)
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    lengths = [len(ids) for ids in encoded]
    beyond = sum(length > max_new_tokens for length in lengths)
    if not beyond:
        return []
    return [
        f"{counted(beyond, 'right answer')} of {len(lengths):,} cannot be given in full: "
        f"bench.max_new_tokens is {max_new_tokens}, the longest has {max(lengths):,} tokens"
    ]


def tell_remembered(models: Sequence[MeasuredModel]) -> list[str]:
    """Return a sentence for each model that remembers canaries beyond chance."""
    chance = expected_exposure(1 + CONTROLS)
    return [
        f"{model.name} remembers the secrets of data.canary: an exposure of {one.value:.2f} bits "
        f"({one.ci95[0]:.2f} to {one.ci95[1]:.2f}), where {chance:.2f} is chance"
        for model in models
        for one in model.measurements
        if one.name == "canary_exposure" and one.ci95 and one.ci95[0] > chance
    ]


def summarize(model: MeasuredModel) -> str:
    """Return the line of a model for the person who waits."""
    values = {m.name: m.value for m in reversed(model.measurements)}
    shown = {
        "exact match": ("exact_match", "{:.1%}"),
        "perplexity": ("perplexity", "{:.3f}"),
        "KL": ("kl_answer_tokens", "{:.2e}"),
        "top-1": ("top1_answer_tokens", "{:.1%}"),
        "decode": ("decode_tokens_per_s", "{:,.0f} tok/s"),
    }
    parts = [
        f"{title} {form.format(values[name])}"
        for title, (name, form) in shown.items()
        if name in values
    ]
    return f"{model.name}: {model.bytes / 1e6:.2f} MB, " + ", ".join(parts)
