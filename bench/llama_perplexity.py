"""Is the KL of a file here the KL that llama.cpp's own tool prints for the same text?

    LLAMA_CPP_TOOLS=llama.cpp/build/bin python bench/llama_perplexity.py --json

Needs ``llama-perplexity``, of the source that llama-cpp-python carries. The reference is the
embedded model in F32; both tools compare a quantized file with it on the prompts of the test rows.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from edgetune.data.encode import Encoded  # noqa: E402
from edgetune.embedded import locate  # noqa: E402
from edgetune.export.gguf.converter import GgufHeader  # noqa: E402
from edgetune.export.gguf.f32 import convert_gguf  # noqa: E402
from edgetune.export.gguf.write import Quantization, write_gguf  # noqa: E402
from edgetune.measure.quality import compare_runtimes  # noqa: E402
from edgetune.quantize.formats.llama_quantize import stock_types  # noqa: E402
from edgetune.runtimes import open_runtime  # noqa: E402
from edgetune.runtimes.gguf_header import open_gguf  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "llama_perplexity.jsonl"
CHUNK = 128  # tokens; the tool scores those behind the first half of each chunk
CHUNKS = 40
ATTEMPTS = 4  # on a busy machine the tool can end before its log thread has written the last lines
SCHEMES = ("Q8_0", "Q4_0", "Q4_K_M", "Q2_K")


def find_program() -> Path | None:
    """Return ``llama-perplexity`` of the folder that LLAMA_CPP_TOOLS names, if it is there."""
    program = Path(os.environ.get("LLAMA_CPP_TOOLS") or "-") / "llama-perplexity"
    return program if program.is_file() else None


def parse_divergence(output: str) -> tuple[float, float]:
    """Return mean KL and its standard error, as llama-perplexity prints them."""
    found = re.search(r"Mean\s+KLD:\s*([-\d.e]+)\s*(?:±|\+/-)\s*([\d.e-]+)", output)
    if found is None:
        raise ValueError(output[-2000:])
    return float(found[1]), float(found[2])


def scored_chunks(ids: list[int]) -> list[Encoded]:
    """Return the tool's chunks, and which of their tokens it scores (tools/perplexity)."""
    trained = [False] * (CHUNK // 2 + 1) + [True] * (CHUNK // 2 - 1)
    chunks = [ids[at : at + CHUNK] for at in range(0, len(ids) - CHUNK + 1, CHUNK)]
    return [Encoded(chunk, trained, False) for chunk in chunks]


def measure(scheme: str, program: Path, folder: Path) -> dict[str, Any]:
    """Return the KL of a file of the scheme by both tools, and the standard error of theirs.

    Args:
        scheme: of the file.
        program: ``llama-perplexity``.
        folder: an empty one, to work in.

    Raises:
        RuntimeError: llama.cpp's tool failed; the end of what it wrote.
    """
    plain, file, written = folder / "F32.gguf", folder / f"{scheme}.gguf", folder / "text.txt"
    convert_gguf(locate("base"), plain, GgufHeader("base", add_bos=False))
    write_gguf(open_gguf(plain), file, Quantization(scheme, stock_types(plain, scheme).types))
    lines = locate("devices/test.jsonl").read_text(encoding="utf-8").splitlines()
    text = "\n".join(json.loads(line)["prompt"] for line in lines)
    written.write_text(text, encoding="utf-8")

    reference, candidate = open_runtime(plain, threads=1), open_runtime(file, threads=1)
    ids = reference.tokenize(text)[: CHUNK * CHUNKS]
    ours = compare_runtimes(reference, candidate, scored_chunks(ids))["kl_answer_tokens"]
    reference.close()
    candidate.close()

    usual = ["-c", CHUNK, "--chunks", CHUNKS, "-t", 1, "--kl-divergence-base", folder / "base.bin"]
    _run(program, "-m", plain, "-f", written, *usual)
    for _ in range(ATTEMPTS):
        output = _run(program, "-m", file, "--kl-divergence", *usual)
        if "Mean    KLD" in output:
            break
    theirs, error = parse_divergence(output)
    return {
        "scheme": scheme, "tokens": len(ids), "kl": round(ours, 6), "kl_llama_perplexity": theirs,
        "standard_error": error, "ok": abs(ours - theirs) <= 2 * error,
    }  # fmt: skip


def _run(*command: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout + done.stderr


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scheme", action="append", help="Q4_0, ... (default: four)")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    args = parser.parse_args()
    program = find_program()
    if program is None:
        sys.exit("no llama-perplexity: set LLAMA_CPP_TOOLS to the folder it is in")
    rows = []
    for scheme in args.scheme or SCHEMES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(scheme, program, Path(folder)))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows[-1]) + "\n")
    if args.json:
        print(json.dumps({"ok": all(row["ok"] for row in rows)}))
    sys.exit(0 if all(row["ok"] for row in rows) else 3)


if __name__ == "__main__":
    main()
