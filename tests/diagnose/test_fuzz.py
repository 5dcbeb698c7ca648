"""Seeds of bench/fuzz.py that once crashed, hung or gave no place: read or refused by name now."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest

from bench.fuzz import HANG_SECONDS, KINDS, make_corpus
from edgetune.errors import EdgetuneError

pytestmark = pytest.mark.slow

SEEDS = {
    "gguf": (0, 1, 2, 3),
    "safetensors": (10, 14),
    "tokenizer": (301, 2200, 2810),  # panics of Rust code
    "template": (65, 217, 1162),  # two renderings of five seconds of CPU each
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    make_corpus(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "seed"), [(kind, seed) for kind, seeds in SEEDS.items() for seed in seeds]
)
def test_reads_or_refuses_by_name(kind: str, seed: int, corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mutated"
    shutil.copytree(corpus, folder)
    name, mutate, read = KINDS[kind]
    raw = (corpus / name).read_bytes()
    head = len(raw) // 20 if kind == "gguf" else 8192
    (folder / name).write_bytes(mutate(random.Random(seed), raw, head))
    began = time.process_time()
    try:
        read(folder)
    except EdgetuneError as error:
        assert error.where
    # CPU seconds: another process's load is no hang of ours.
    assert time.process_time() - began < HANG_SECONDS
