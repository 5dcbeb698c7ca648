"""The KL of a file by this tool and by llama.cpp's own, on the same text, are the same figure.

LLAMA_CPP_TOOLS names the folder of ``llama-perplexity``, as in tests/quantize/test_llama_tools.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.llama_perplexity import (
    CHUNK,
    find_program,
    measure,
    parse_divergence,
    scored_chunks,
)

pytestmark = pytest.mark.slow


def test_output_of_llama_perplexity_is_parsed() -> None:
    output = "====== KL divergence statistics ======\nMean    KLD:   0.024111 ±   0.000925\n"
    assert parse_divergence(output) == (0.024111, 0.000925)
    (chunk, _) = scored_chunks(list(range(2 * CHUNK + 5)))
    assert sum(chunk.trained) == 63 and chunk.trained[65] and not chunk.trained[64]


@pytest.mark.parametrize("scheme", ["Q8_0", "Q4_0"])
def test_kl_equals_llama_perplexity_within_two_standard_errors(scheme: str, tmp_path: Path) -> None:
    program = find_program()
    if program is None:
        pytest.skip("no llama-perplexity: set LLAMA_CPP_TOOLS to the folder it is in")
    found = measure(scheme, program, tmp_path)
    assert found["ok"], found
