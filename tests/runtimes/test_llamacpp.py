"""GGUF files: real ones, and broken ones that must not take the process down."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from edgetune.errors import InputError
from edgetune.measure.quality import log_softmax
from edgetune.runtimes import find_opener, open_runtime
from edgetune.runtimes.kv_cache import find_kv_fault
from tests.conftest import make_model
from tests.model_files import make_gguf


@pytest.fixture(scope="module")
def gguf(tiny_model: Path) -> Path:
    return make_gguf(tiny_model)


def test_refuses_a_file_cut_anywhere(gguf: Path, tmp_path: Path) -> None:
    whole = gguf.read_bytes()
    cut = tmp_path / "cut.gguf"
    chosen = random.Random(0).sample(range(len(whole)), 40)
    for length in (0, 3, 4, 23, 24, len(whole) - 1, *chosen):
        cut.write_bytes(whole[:length])
        with pytest.raises(InputError) as error:
            open_runtime(cut, threads=1)
        assert str(cut) in str(error.value)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"PK\x03\x04" + bytes(60), "letters GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**62, 2**62), "inside its header"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**63), "runs past the end"),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"k", 77), "unknown type 77"),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 1, 0, 1, b"t", 9), "9 dimensions"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "llama.cpp cannot load"),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "wrong.gguf"
    path.write_bytes(content)
    with pytest.raises(InputError, match=fault):
        open_runtime(path, threads=1)


def test_leaves_the_process_quietly(gguf: Path) -> None:
    """No line on stderr, closed or not, from loading to the end of the interpreter."""
    code = (
        "import sys; from pathlib import Path; from edgetune.runtimes import open_runtime\n"
        "runtime = open_runtime(Path(sys.argv[1]), threads=1); runtime.logits([5, 6])\n"
        "other = open_runtime(Path(sys.argv[1]), threads=1); other.generate([[5]], 2, [])\n"
        "other.close(); other.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(gguf)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_refuses_text_that_aborts_llamacpp(gguf: Path, tmp_path: Path) -> None:
    """Without byte tokens, a character outside a SentencePiece vocabulary ends the process in C."""
    reader = GGUFReader(gguf)
    writer = GGUFWriter(tmp_path / "spm.gguf", "llama")
    for key, entry in reader.fields.items():
        if key.startswith("llama.") or key == "tokenizer.ggml.eos_token_id":
            writer.add_key_value(key, entry.contents(), entry.types[0])
    tokens = [f"<{n}>" for n in range(100)] + [*"▁abcdef", "▁a"]
    size = len(reader.fields["tokenizer.ggml.tokens"].contents())
    tokens += [f"[{n}]" for n in range(size - len(tokens))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(n) for n in range(size)])
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    runtime = open_runtime(tmp_path / "spm.gguf", threads=1)
    assert runtime.tokenize("abc")
    for text in ("x", "a\n", "東京"):
        with pytest.raises(InputError, match="byte tokens"):
            runtime.tokenize(text)
    runtime.close()


@pytest.mark.assets
def test_a_real_file_equals_its_model(assets: Path) -> None:
    folder = assets / "models" / "stories260K"
    torch, llama = (open_runtime(p, threads=1) for p in (folder, folder / "golden.gguf"))
    text = "Once upon a time, there was a little girl. Her name was Lily."
    ids = [1, *torch.tokenize(text)]
    assert [1, *llama.tokenize(text)] == ids
    np.testing.assert_allclose(llama.logits(ids), torch.logits(ids), atol=1e-4)
    prompts = [ids, ids[:4], ids[:9]]
    assert llama.generate(prompts, 40, [2]) == torch.generate(prompts, 40, [2])
    llama.close()


def test_packed_caches_cost_what_they_cost(tmp_path: Path) -> None:
    """Each type is really used: logits move, by more the fewer bits a value has."""
    model = make_gguf(make_model(tmp_path / "model", hidden=128))  # heads of 32
    ids = [5 + 7 * n % 250 for n in range(90)]
    found = {}
    for kv_cache in ("f16", "q8_0", "q4_0"):
        assert find_kv_fault(model, kv_cache) == ""
        opener: Any = find_opener(model)
        runtime = opener(1, "cpu", kv_cache=kv_cache)
        found[kv_cache] = log_softmax(runtime.logits(ids)), runtime.generate([ids[:40]], 8, [])
        runtime.close()
    exact, _ = found["f16"]
    kl = {name: float((np.exp(exact) * (exact - one)).sum(-1).mean()) for name, (one, _) in
          found.items()}  # fmt: skip
    assert 1e-7 < kl["q8_0"] < 0.1 * kl["q4_0"] < 0.1
    assert all(len(answers[0]) == 8 for _, answers in found.values())


def test_heads_that_no_block_fits_are_named(gguf: Path) -> None:
    assert find_kv_fault(gguf, "f16") == ""
    assert "a head of 16 values is no multiple" in find_kv_fault(gguf, "q8_0")
