"""Random decoding follows the model's distribution, and a seed alone decides what is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgetune.runtimes import open_runtime
from edgetune.runtimes.llamacpp import LlamaCpp
from edgetune.runtimes.pytorch import Torch
from edgetune.runtimes.sampling import Picker, Sampling
from tests.model_files import make_gguf

LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))


def draw(count: int, **settings: float) -> np.ndarray:
    """Return how often each token is drawn of ``LOGITS``, as fractions."""
    sampling = Sampling(seeds=tuple(range(count)), **{"temperature": 1.0, **settings})
    picked = Picker(sampling, range(count)).pick(np.tile(LOGITS, (count, 1)))
    return np.bincount(picked, minlength=4) / count


def test_draws_follow_the_distribution() -> None:
    assert np.abs(draw(4000) - np.exp(LOGITS)).max() < 0.03
    sharp = np.exp(2 * LOGITS) / np.exp(2 * LOGITS).sum()
    assert np.abs(draw(4000, temperature=0.5) - sharp).max() < 0.03


def test_top_p_draws_from_the_likeliest_alone() -> None:
    found = draw(4000, top_p=0.7)
    assert found[2] == found[3] == 0
    assert abs(found[0] - 0.5 / 0.8) < 0.03


def test_a_sequence_draws_the_same_whatever_ends_beside_it() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    sampling = Sampling(1.0, (7, 8, 9))
    whole, alone = Picker(sampling, [0, 1, 2]), Picker(sampling, [2])
    assert whole.pick(scores)[2] == alone.pick(scores[2:])[0]
    whole.keep([1, 2])
    assert whole.pick(scores[1:])[1] == alone.pick(scores[2:])[0]


@pytest.fixture(scope="module")
def runtimes(tiny_model: Path) -> list[Torch | LlamaCpp]:
    """The tiny model in torch, and its F32 file in llama.cpp."""
    found = [open_runtime(tiny_model, 1), open_runtime(make_gguf(tiny_model), 1)]
    assert isinstance(found[0], Torch) and isinstance(found[1], LlamaCpp)
    return [found[0], found[1]]


def test_both_runtimes_draw_what_the_seed_says(runtimes: list[Torch | LlamaCpp]) -> None:
    prompts = [runtimes[0].tokenize(text) for text in ("turn the light", "kitchen", "light forty")]
    texts = []
    for runtime in runtimes:
        sampling = Sampling(1.0, (1, 2, 3), 0.9)
        drawn = runtime.sample(prompts, 8, [], sampling)
        assert drawn == runtime.sample(prompts, 8, [], sampling)
        assert drawn != runtime.sample(prompts, 8, [], Sampling(1.0, (4, 5, 6), 0.9))
        assert [len(ids) for ids in drawn] == [8, 8, 8]
        cold = runtime.sample(prompts, 8, [], Sampling(1e-4, (1, 2, 3)))
        assert cold == runtime.generate(prompts, 8, [])
        texts.append(drawn)
    # llama.cpp's cache is of 16 bits: after some tokens the two may draw others.
    first, second = ([ids[:3] for ids in drawn] for drawn in texts)
    assert first == second
