"""Variants of a prompt: answers, losses and divergences equal what a whole pass gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgetune.measure.reference import log_softmax
from edgetune.measure.variants import ANSWER_TOKENS, Variants, measure_variants
from edgetune.runtimes import open_runtime


def test_losses_and_divergences_are_those_of_the_whole_logits(tiny_model: Path) -> None:
    runtime = open_runtime(tiny_model, threads=1)
    prompts = [[5, 9, 30, 31], [5, 10, 30, 31], [5, 9, 30, 31]]
    expected = [40 + n for n in range(ANSWER_TOKENS + 3)]
    row = Variants(prompts, expected, [(0, 1), (0, 2)]).to_json()
    unscored = Variants(prompts[:2], [], [(0, 1)]).to_json()
    first, second = measure_variants(runtime, [row, unscored], 3, [])
    assert first["answers"] == runtime.generate(prompts, 3, [])
    assert len(second["answers"]) == 2 and second["losses"] == second["divergences"] == []
    wanted = []
    for prompt in prompts:
        kept = expected[:ANSWER_TOKENS]
        logits = runtime.logits([*prompt, *kept])
        wanted.append(log_softmax(logits[len(prompt) - 1 : -1]))
    losses = [-np.mean([one[n, token] for n, token in enumerate(expected[:ANSWER_TOKENS])])
              for one in wanted]  # fmt: skip
    assert first["losses"] == pytest.approx(losses, rel=1e-4)
    a, b = wanted[:2]
    both = [(np.exp(p) * (p - q)).sum(axis=1).mean() for p, q in ((a, b), (b, a))]
    assert first["divergences"] == pytest.approx([np.mean(both), 0], rel=1e-3, abs=1e-9)
    assert measure_variants(runtime, [], 3, []) == []
    runtime.close()
