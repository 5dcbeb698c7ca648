"""AutoRound's codes: what it says it computed with is what the bytes hold, to the last bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgetune.errors import EdgetuneError, Unsupported
from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf
from edgetune.log import Log
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.quantize.calibration.rows import Texts
from edgetune.quantize.candidates import Candidates
from edgetune.quantize.formats.nbits import dequantize_nbits
from edgetune.quantize.methods import autoround
from edgetune.quantize.methods.autoround import find_roundable, quantize_file, run_autoround
from edgetune.quantize.methods.autoround_types import GGML_TYPES
from edgetune.quantize.weights import Fused, find_weights
from edgetune.recipe import AutoRoundSection
from edgetune.runtimes.ggml import dequantize_tensor
from edgetune.runtimes.gguf_header import open_gguf
from tests.conftest import make_model
from tests.quantize.methods.jobs import make_job

QUIET = Log(None, quiet=True)
ROWS = [[(7 * n + 3 * t * t) % 290 + 5 for t in range(60 + n % 5)] for n in range(32)]
JUDGED = [[(11 * n + 5 * t * t) % 290 + 5 for t in range(16)] for n in range(48)]
SECTION = AutoRoundSection(iterations=12, batch_size=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("rounded") / "model")


def candidates_of(folder: Path, scratch: Path) -> Candidates:
    convert_gguf(folder, scratch / "F32.gguf", GgufHeader("tiny"))
    source, model = open_gguf(scratch / "F32.gguf"), load_model(ModelRef(folder))
    shapes = {name: tuple(tensor.shape) for name, tensor in source.tensors.items()}
    found = Candidates(model, find_weights(model, "llama", 2, shapes), scratch / "candidates")
    found.make((*GGML_TYPES, "Q4_1"), QUIET)
    return found


@pytest.mark.parametrize(
    "kinds", [[*GGML_TYPES, "Q4_0"], ["uint4_g32", "int4_g64", "uint2_g64", "int8_g64", "Q4_0"]]
)
def test_the_bytes_are_what_autoround_computed_with(
    folder: Path, tmp_path: Path, kinds: list[str]
) -> None:
    """Every matrix, in several types: the model that AutoRound leaves, and the bytes read again."""
    candidates = candidates_of(folder, tmp_path)
    weights = candidates.weights
    types = {name: kinds[n % len(kinds)] for n, name in enumerate(weights)}
    types["blk.1.ffn_up.weight"] = "Q4_1"  # a float minimum: stays ggml's
    q, k = (weights[f"blk.0.attn_{one}.weight"] for one in "qk")  # as an ONNX graph has them
    fused = Fused("qk", (q, k), (64, 32), None)
    weights = {name: one for name, one in weights.items() if one not in (q, k)} | {"qk": fused}
    types = {name: types.get(name, kinds[0]) for name in weights}
    found = []
    for _ in range(2):
        model = load_model(ModelRef(folder))
        chosen = find_roundable(model, weights, types)
        raw = run_autoround(model, load_tokenizer(folder), chosen, ROWS, SECTION, 0)
        assert set(raw) == set(types) - {"token_embd.weight", "blk.1.ffn_up.weight"}
        for name, rows in raw.items():
            read = dequantize_tensor if types[name] in GGML_TYPES else dequantize_nbits
            theirs = weights[name].read(model)
            assert np.array_equal(read(rows, types[name]), theirs), name
            assert not np.array_equal(theirs, weights[name].read(load_model(ModelRef(folder))))
        found.append(raw)
    first, second = found
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_it_is_closer_where_few_bits_are(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = candidates_of(folder, tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    types = dict.fromkeys(candidates.weights, "Q4_0")
    section = AutoRoundSection(iterations=40, batch_size=4)
    job = make_job(candidates, types, Texts(ROWS, [], JUDGED), section, model=folder)
    raw, facts = quantize_file(job)
    assert facts["kept"] and facts["kl_after"] < facts["kl_before"], facts
    assert (facts["method"], facts["tensors"], facts["steps"]) == ("autoround", 14, 40)
    assert np.array_equal(raw["token_embd.weight"], candidates.load("token_embd.weight", "Q4_0"))
    assert not any((tmp_path / "here").iterdir())  # it leaves nothing in the working directory


def test_a_result_of_higher_kl_is_not_kept(folder: Path, tmp_path: Path) -> None:
    candidates = candidates_of(folder, tmp_path)
    types = dict.fromkeys(candidates.weights, "Q8_0")
    section = AutoRoundSection(iterations=1)
    job = make_job(candidates, types, Texts(ROWS[:1], [], JUDGED), section, model=folder)
    raw, facts = quantize_file(job)
    plain = all(np.array_equal(raw[name], candidates.load(name, "Q8_0")) for name in raw)
    assert plain is not facts["kept"]
    assert facts["kept"] is (facts["kl_difference_ci95"][1] < 0)


def test_types_without_an_exact_result_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    candidates = candidates_of(folder, tmp_path)
    types = dict.fromkeys(candidates.weights, "Q4_1")
    job = make_job(candidates, types, Texts(ROWS, [], JUDGED), SECTION, model=folder)
    with pytest.raises(
        Unsupported, match=r"no matrix of a layer has a type.*\n.*Q8_0, Q5_0, Q4_0, int8_g64"
    ):
        quantize_file(job)


def test_a_failure_of_its_own_is_explained(folder: Path) -> None:
    model = load_model(ModelRef(folder))
    config = {"model.layers.0.mlp.up_proj": {"bits": 4, "group_size": 32, "sym": True,
                                             "data_type": "no such"}}  # fmt: skip
    with pytest.raises(EdgetuneError, match="AutoRound fails"):
        autoround._run(model, load_tokenizer(folder), config, ROWS, SECTION, 0)


def test_it_is_imported_only_when_asked_for() -> None:
    code = (
        "import sys, edgetune.stages.quantize\n"
        "assert 'auto_round' not in sys.modules, 'ten seconds for nothing'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ})
