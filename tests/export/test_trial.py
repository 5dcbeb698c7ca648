"""Trial files: byte for byte what export writes, gone when they have been run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edgetune.errors import InputError
from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf
from edgetune.export.gguf.support import find_architecture
from edgetune.export.gguf.write import Quantization, write_gguf
from edgetune.export.onnx.blocks import find_importance, read_matrices
from edgetune.export.onnx.build import write_weights
from edgetune.export.onnx.frame import open_frame
from edgetune.export.trial import Trials, gguf_writer, onnx_writer
from edgetune.log import Log
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.quantize.calibration.activations import collect_activation_stats
from edgetune.quantize.calibration.imatrix import name_for_gguf, read_imatrix, write_imatrix
from edgetune.quantize.candidates import Candidates
from edgetune.quantize.formats.types import GGUF, ONNX
from edgetune.quantize.plan import settings_of
from edgetune.quantize.weights import find_weights, match_weights
from edgetune.recipe import Requests
from edgetune.runtimes.gguf_header import open_gguf

QUIET = Log(None, quiet=True)
SEQUENCES = [[(7 * n + 3 * t * t) % 290 + 5 for t in range(24)] for n in range(7)]
REQUESTS = Requests(prompt_tokens=8, new_tokens=3, repeats=1, threads=1)


@pytest.fixture(scope="module")
def weighed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The model, its inputs, and the importance matrix as export reads it."""
    model = load_model(ModelRef(tiny_model))
    energy = collect_activation_stats(model, SEQUENCES, QUIET)
    path = tmp_path_factory.mktemp("weighed") / "imatrix.gguf"
    write_imatrix(name_for_gguf(energy, *find_architecture(tiny_model)), path, "rows")  # type: ignore[misc]
    return model, energy, read_imatrix(path)


def test_a_gguf_trial_is_the_file(tiny_model: Path, tmp_path: Path, weighed: Any) -> None:
    model, energy, importance = weighed
    convert_gguf(tiny_model, tmp_path / "F32.gguf", GgufHeader("tiny"))
    source = open_gguf(tmp_path / "F32.gguf")
    shapes = {name: tuple(tensor.shape) for name, tensor in source.tensors.items()}
    weights = find_weights(model, "llama", 2, shapes, energy)
    candidates = Candidates(model, weights, tmp_path / "candidates", GGUF)
    kinds = ("IQ4_NL", "Q5_1", "Q4_0", "Q8_0")
    candidates.make(kinds, QUIET)
    types = dict.fromkeys(shapes, "F32")
    types |= {name: kinds[n % len(kinds)] for n, name in enumerate(candidates.weights)}
    trials = Trials(tmp_path / "trials", REQUESTS, [5, 6, 7])
    make = partial(gguf_writer, source, importance, model)
    ((found,),) = trials.run_by(make, ".gguf")(candidates)([types], 1)
    assert found.runtime == "llama.cpp" and not (tmp_path / "trials").exists()
    make(candidates)(tmp_path / "trial.gguf", types)
    write_gguf(source, tmp_path / "export.gguf", Quantization("fit", types, importance))
    assert (tmp_path / "trial.gguf").read_bytes() == (tmp_path / "export.gguf").read_bytes()


def test_an_onnx_trial_is_the_folder(tiny_model: Path, tmp_path: Path, weighed: Any) -> None:
    model, _, importance = weighed
    frame = open_frame(tiny_model, tmp_path / "builder")
    weights = match_weights(
        model, read_matrices(frame), lambda name: find_importance(name, importance)
    )
    candidates = Candidates(model, weights, tmp_path / "candidates", ONNX)
    kinds = ("uint4_g32", "int4_g64", "Q4_0", "Q8_0")
    candidates.make(kinds, QUIET)
    types = {name: kinds[n % len(kinds)] for n, name in enumerate(candidates.weights)}
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "left").write_text("by a run that was killed")
    trials = Trials(tmp_path / "trials", REQUESTS, [5, 6, 7])
    make = partial(onnx_writer, frame, importance)
    ((first, second),) = trials.run_by(make)(candidates)([types], 2)
    assert first.runtime == second.runtime == "onnxruntime"
    assert not (tmp_path / "trials").exists()
    make(candidates)(tmp_path / "trial", types)
    write_weights(frame, tmp_path / "export", settings_of(types), importance)
    for file in (tmp_path / "export").rglob("*.*"):
        name = file.relative_to(tmp_path / "export")
        assert file.read_bytes() == (tmp_path / "trial" / name).read_bytes(), name


def test_one_token_has_no_time_to_the_next(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"new_tokens.*no time from token to token"):
        Trials(tmp_path, Requests(new_tokens=1), [5])
