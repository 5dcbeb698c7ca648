"""Measurements in float32: on the GPU where the model fits it, and nowhere else than asked."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from edgetune.artifact import Artifact
from edgetune.data.build_encoder import make_encoder
from edgetune.data.contract import write_contract
from edgetune.data.dataset.make import load_splits
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.ref import ModelRef
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.quantize.calibration.device import on_device
from edgetune.recipe import Recipe
from edgetune.recipe.sections import Sections
from edgetune.runtimes import gpu, pytorch
from edgetune.runtimes.gpu import choose_float32_device, open_float32
from edgetune.stages import export, merge, quantize


def set_gpu(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, 10**12))


def test_the_gpu_is_taken_where_the_copies_fit(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = 4 * gpu.Checkpoint(tiny_model).count
    log = Log(tmp_path / "log.jsonl", quiet=True)
    set_gpu(monkeypatch, int(2.5 * weights))
    assert choose_float32_device("cuda", tiny_model, 2, log) == "cuda"
    assert choose_float32_device("auto", tiny_model, 2, log) == "cuda"
    assert choose_float32_device("cpu", tiny_model, 2, log) == "cpu"
    assert choose_float32_device("cuda", tiny_model, 3, log) == "cpu"
    assert "computed on the CPU" in (tmp_path / "log.jsonl").read_text()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_float32_device("auto", tiny_model, 2, log) == "cpu"
    with pytest.raises(InputError, match="no CUDA device"):
        choose_float32_device("cuda", tiny_model, 2, log)


def test_a_float32_model_is_loaded_on_the_cpu_and_moved(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.nn.Module, "to", lambda self, device, *_, **__: moved.append(str(device)) or self
    )
    runtime = open_float32(ModelRef(tiny_model), 1, "cuda")
    assert isinstance(runtime, pytorch.Torch)
    assert runtime.device == "cuda" and moved[-1] == "cuda"
    assert next(runtime._model.parameters()).dtype == torch.float32


def test_calibration_takes_the_model_there_and_back() -> None:
    class Model:
        places: list[str] = []  # noqa: RUF012

        def to(self, device: str) -> None:
            self.places.append(device)

    model = Model()
    with on_device(model, "cpu"):
        pass
    assert model.places == []
    with pytest.raises(ZeroDivisionError), on_device(model, "cuda"):
        assert model.places == ["cuda"]
        raise ZeroDivisionError
    assert model.places == ["cuda", "cpu"]


class Asked(Exception):
    """Raised by the stand-in for the choice, with what it was given."""


@pytest.mark.parametrize("stage", [merge, quantize, export])
def test_stages_ask_for_the_device_of_the_recipe(
    stage: Any, tiny_model: Path, device_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(wanted: str, *_: Any) -> str:
        raise Asked(wanted)

    monkeypatch.setattr(stage, "choose_float32_device", ask)
    recipe = Recipe.model_validate(
        {"model": {"path": str(tiny_model), "device": "cuda"}, "data": {"train": str(device_rows)},
         "merge": {}, "quantize": {"gguf": ["F32"], "onnx": []}, "export": {}}
    )  # fmt: skip
    sections = Sections(recipe, ("file_name", "device", "data", "merge", "quantize", "export",
                                 "requests"))  # fmt: skip
    folder = contract_folder(tiny_model, sections, tmp_path)
    with pytest.raises(Asked, match="cuda"):
        if stage is export:
            made = Artifact(folder.parent, "model", "merge", "m")
            export._measure_merged(sections, {"merge": made}, tmp_path, Log(quiet=True))
        elif stage is quantize:
            made = Artifact(folder.parent, "model", "merge", "m")
            quantize.run(sections, {"merge": made}, tmp_path, Log(quiet=True))
        else:
            facts = {"model": ModelRef(folder).to_json(folder.parent)}
            made = Artifact(folder.parent, "adapter", "tune", "t", facts=facts)
            monkeypatch.setattr(merge, "encoder_of", lambda _, data: encoder(tiny_model, data))
            merge.run(sections, {"tune": made}, tmp_path, Log(quiet=True))


def encoder(model: Path, data: Any) -> Any:
    return make_encoder(load_tokenizer(model), data, None)


def contract_folder(model: Path, sections: Sections, folder: Path) -> Path:
    """Return the model as merge leaves it, with its contract."""
    merged = folder / "merge" / "model"
    shutil.copytree(model, merged)
    rows = load_splits(sections.data, 0, Log(quiet=True)).test
    write_contract(encoder(merged, sections.data), rows, merged)
    return merged
