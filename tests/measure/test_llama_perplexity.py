"""The KL of a file by this tool and by llama.cpp's own, on the same text, are the same figure.

LLAMA_CPP_TOOLS names the folder of ``llama-perplexity``, as in tests/quantize/test_llama_tools.py.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from edgetune.data.encode import Encoded
from edgetune.embedded import locate
from edgetune.export.gguf.write import GgufHeader, convert_gguf, write_gguf
from edgetune.measure.quality import compare_runtimes
from edgetune.quantize.formats.ggml import stock_types
from edgetune.runtimes import open_runtime
from edgetune.runtimes.gguf_header import open_gguf

pytestmark = pytest.mark.slow
CHUNK = 128  # tokens; the tool scores those behind the first half of each chunk
CHUNKS = 40


def parse_divergence(said: str) -> tuple[float, float]:
    """Return mean KL and its standard error, as llama-perplexity prints them."""
    found = re.search(r"Mean\s+KLD:\s*([-\d.e]+)\s*(?:±|\+/-)\s*([\d.e-]+)", said)
    assert found, said[-2000:]
    return float(found[1]), float(found[2])


def scored_chunks(ids: list[int]) -> list[Encoded]:
    """Return the tool's chunks, and which of their tokens it scores (tools/perplexity)."""
    trained = [False] * (CHUNK // 2 + 1) + [True] * (CHUNK // 2 - 1)
    chunks = [ids[at : at + CHUNK] for at in range(0, len(ids) - CHUNK + 1, CHUNK)]
    return [Encoded(chunk, trained, False) for chunk in chunks]


def test_the_tools_words_are_read() -> None:
    said = "====== KL divergence statistics ======\nMean    KLD:   0.024111 ±   0.000925\n"
    assert parse_divergence(said) == (0.024111, 0.000925)
    (chunk, _) = scored_chunks(list(range(2 * CHUNK + 5)))
    assert sum(chunk.trained) == 63 and chunk.trained[65] and not chunk.trained[64]


@pytest.mark.parametrize("scheme", ["Q8_0", "Q4_0"])
def test_both_tools_find_the_same_divergence(scheme: str, tmp_path: Path) -> None:
    tools = os.environ.get("LLAMA_CPP_TOOLS")
    program = Path(tools or "-") / "llama-perplexity"
    if not program.is_file():
        pytest.skip("no llama-perplexity: set LLAMA_CPP_TOOLS to the folder it is in")
    plain, file = tmp_path / "F32.gguf", tmp_path / f"{scheme}.gguf"
    convert_gguf(locate("base"), plain, GgufHeader("base", add_bos=False))
    write_gguf(open_gguf(plain), file, scheme, stock_types(plain, scheme).types)
    lines = locate("devices/test.jsonl").read_text(encoding="utf-8").splitlines()
    text = "\n".join(json.loads(line)["prompt"] for line in lines)

    one, other = open_runtime(plain, threads=1), open_runtime(file, threads=1)
    ids = one.tokenize(text)[: CHUNK * CHUNKS]
    mine = compare_runtimes(one, other, scored_chunks(ids))
    one.close()
    other.close()

    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    base = tmp_path / "base.bin"
    usual = ["-c", CHUNK, "--chunks", CHUNKS, "-t", 1, "--kl-divergence-base", base]
    said = ""
    for command in (
        [program, "-m", plain, "-f", tmp_path / "text.txt", *usual],
        [program, "-m", file, "--kl-divergence", *usual],
    ):
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        said = done.stdout + done.stderr
    theirs, error = parse_divergence(said)
    assert abs(mine["kl_answer_tokens"] - theirs) <= 2 * error, (mine, theirs, error)
