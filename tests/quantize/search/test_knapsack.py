"""The best types under a budget, against trying every combination."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from edgetune.errors import InputError
from edgetune.quantize.search.knapsack import Option, assign_types, total_bytes


def some_options(seed: int, tensors: int = 5) -> dict[str, list[Option]]:
    random = np.random.default_rng(seed)
    found = {}
    for number in range(tensors):
        size = int(random.integers(100, 10_000)) * 32
        scale = 10.0 ** float(random.uniform(-5, 0))
        found[f"t{number}"] = [
            Option(kind, int(size * bits / 8), scale * 4.0**-bits * float(random.uniform(0.5, 2)))
            for kind, bits in (("Q8_0", 8.5), ("Q6_K", 6.5), ("Q4_K", 4.5), ("Q2_K", 2.625))
        ]
    return found


@pytest.mark.parametrize("seed", range(6))
def test_as_good_as_trying_everything(seed: int) -> None:
    options = some_options(seed)
    least = sum(min(o.bytes for o in several) for several in options.values())
    most = sum(max(o.bytes for o in several) for several in options.values())
    for share in (0.0, 0.1, 0.37, 0.8, 1.0):
        budget = least + int(share * (most - least))
        best = min(
            sum(o.kl for o in each)
            for each in product(*options.values())
            if sum(o.bytes for o in each) <= budget
        )
        found = assign_types(options, budget)
        assert total_bytes(found) <= budget
        assert sum(o.kl for o in found.values()) <= best * 1.02


def test_a_budget_below_the_smallest_says_by_how_much() -> None:
    options = some_options(0)
    least = sum(min(o.bytes for o in several) for several in options.values())
    with pytest.raises(InputError, match="1000 too many"):
        assign_types(options, least - 1000)


def test_many_tensors_use_the_whole_budget() -> None:
    options = some_options(1, tensors=120)
    most = sum(max(o.bytes for o in several) for several in options.values())
    found = assign_types(options, most)
    assert {option.type for option in found.values()} <= {"Q8_0", "Q6_K"}
