"""Tiny real models and the assets folder, shared by the tests. Everything is offline and on CPU."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Before anything imports triton: without a GPU its kernels are interpreted.
if not os.path.exists("/dev/nvidiactl"):
    os.environ["TRITON_INTERPRET"] = "1"

import atexit
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgetune.models.hardware import cpu_flags, name_machine

from .browser import Browser, find_chromium

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def _fix_rates() -> None:
    """Have ``compute_dtype: auto`` be what the processor's flags say: no test times the machine."""
    folder = Path(tempfile.mkdtemp(prefix="edgetune-cache-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["XDG_CACHE_HOME"] = str(folder)  # commands that tests start read it too
    fast = bool(cpu_flags() & {"avx512_bf16", "amx_bf16"})
    path = folder / "edgetune" / "machine.json"
    path.parent.mkdir()
    rates = {"float32": 100e9, "bfloat16": 200e9 if fast else 50e9}
    path.write_text(json.dumps({name_machine(): rates}))


_fix_rates()


def _share_cores() -> None:
    """Give each of several test processes cores of its own, which the children it starts keep.

    Two processes with as many threads as there are cores each wait for one another: torch's and
    llama.cpp's threads spin.
    """
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if count > 1 and hasattr(os, "sched_setaffinity"):
        number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, set(cores[number % len(cores) :: count]) or set(cores))


_share_cores()


def make_tokenizer(folder: Path, size: int = 400) -> None:
    """Save a byte-level BPE tokenizer with a ChatML template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = ["turn the light in the kitchen to forty percent", '{"call": "light.set", "level": 40}']
    tokenizer.train_from_iterator(text * 20, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    fast.chat_template = CHATML
    fast.save_pretrained(folder)


def make_model(
    folder: Path, *, layers: int = 2, hidden: int = 64, seed: int = 0, tied: bool = True
) -> Path:
    """Save a random Llama with its tokenizer as a Hugging Face folder."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    make_tokenizer(folder)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=hidden // 4,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        initializer_range=0.1,  # wide enough that a random model has opinions to compare
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers, hidden size 64, with random weights."""
    return make_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real models and data; tests that use it skip where it is absent."""
    folder = Path(os.environ.get("EDGETUNE_ASSETS", "../shared/assets"))
    if not folder.is_dir():
        pytest.skip(f"no assets at {folder}: set EDGETUNE_ASSETS")
    return folder


@pytest.fixture(scope="session")
def device() -> str:
    """``cuda``, for tests marked gpu, which skip without one.

    EDGETUNE_TEST_DEVICE=cpu runs them on the CPU instead, to try the tests themselves.
    """
    import torch

    named = os.environ.get("EDGETUNE_TEST_DEVICE", "cuda")
    if named == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return named


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium, one for all tests; they are marked browser and skip without it."""
    if find_chromium() is None:
        pytest.skip("no chromium here: apt-get install chromium")
    found = Browser()
    yield found
    found.close()


@pytest.fixture
def device_rows(tmp_path: Path) -> Path:
    """A small file of prompt/completion rows that a tiny model can learn."""
    return write_device_rows(tmp_path / "rows.jsonl")


def write_device_rows(path: Path) -> Path:
    """Write 36 rows of orders for lights, which a tiny model can learn."""
    rooms = ["kitchen", "bedroom", "garage", "hall"]
    lines = [
        f'{{"prompt": "light {room} {level}", "completion": "{{\\"{room}\\": {level}}}"}}\n'
        for room in rooms
        for level in range(10, 100, 10)
    ]
    path.write_text("".join(lines), encoding="utf-8")
    return path
