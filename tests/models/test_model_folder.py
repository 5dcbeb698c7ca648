"""Model folders: whole ones pass, everything else is named before any work."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from edgetune.errors import InputError
from edgetune.models.checkpoint import check_model_folder
from edgetune.models.hardware import choose_device, require_room
from edgetune.models.resolve import resolve_data, resolve_model
from edgetune.naming import is_hub_id


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "m"))


def test_a_whole_folder_passes(folder: Path) -> None:
    assert check_model_folder(folder)["model_type"] == "llama"


@pytest.mark.parametrize(
    ("missing", "fault"),
    [
        ("config.json", "no such file"),
        ("tokenizer.json", "no tokenizer"),
        ("model.safetensors", r"no model\.safetensors or"),
    ],
)
def test_missing_parts_are_named(folder: Path, missing: str, fault: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(InputError, match=fault):
        check_model_folder(folder)


def test_pickles_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match=r"pickled \(pytorch_model.bin\)"):
        check_model_folder(folder)


@pytest.mark.parametrize("keep", [4, 100, 5000])
def test_truncated_weights_are_refused(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        check_model_folder(folder)


def test_a_header_of_absurd_length_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((2**60).to_bytes(8, "little") + b"{}")
    with pytest.raises(InputError, match="not a whole safetensors file"):
        check_model_folder(folder)


def test_broken_config_is_explained(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="not readable as JSON"):
        check_model_folder(folder)


def test_only_a_named_hub_id_reaches_for_the_network(tmp_path: Path) -> None:
    assert is_hub_id("org/name") and not is_hub_id(str(tmp_path)) and not is_hub_id("embedded:base")
    with pytest.raises(InputError, match="no such model folder"):
        resolve_model("not-here")
    with pytest.raises(InputError, match="from the hub"):  # HF_HUB_OFFLINE is set in tests
        resolve_model("edgetune-test/not-there")
    with pytest.raises(InputError, match="no such data file"):
        resolve_data(str(tmp_path / "none.jsonl"))
    with pytest.raises(InputError, match="base"):
        resolve_model("embedded:nothing")


def test_cuda_is_refused_where_there_is_none() -> None:
    if torch.cuda.is_available():
        assert choose_device("auto") == "cuda"
    else:
        assert choose_device("auto") == "cpu"
        with pytest.raises(InputError, match="no CUDA"):
            choose_device("cuda")


def test_a_full_disk_is_told_before_the_work(tmp_path: Path) -> None:
    require_room(tmp_path / "new" / "deep", 1, "x")
    with pytest.raises(InputError, match=r"needs .* MB of disk"):
        require_room(tmp_path, 10**18, "x")
