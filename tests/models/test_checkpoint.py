"""One object knows a model's weight files; what lies beside them is left, and said."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgetune.diagnose.tensors import FolderTensors
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models import checkpoint
from edgetune.models.checkpoint import Checkpoint, check_model_folder, copy_description
from edgetune.models.checkpoint_tensors import CheckpointTensors
from edgetune.models.lineage import lineage_of
from edgetune.models.load import load_base, load_model
from edgetune.models.merge import write_merged
from edgetune.models.ref import ModelRef
from tests.conftest import make_model
from tests.models.test_merge import logits, peft_adapter


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "m"))


@pytest.fixture
def sharded(tiny_model: Path, tmp_path: Path) -> Path:
    target = tmp_path / "sharded"
    load_base(tiny_model, False, "float32", "cpu").save_pretrained(target, max_shard_size="60KB")
    for file in tiny_model.glob("tokenizer*"):
        shutil.copy(file, target / file.name)
    return target


def zeros_of(model: Path) -> dict[str, torch.Tensor]:
    return {
        name: torch.zeros_like(value)
        for name, value in load_file(model / "model.safetensors").items()
    }


@pytest.mark.parametrize(
    "stray",
    ["old.safetensors", "consolidated.safetensors", "model-00001-of-00001.safetensors"],
)
def test_leftovers_are_not_read(stray: str, tiny_model: Path, folder: Path, tmp_path: Path) -> None:
    save_file(zeros_of(tiny_model), folder / stray)
    right = load_file(tiny_model / "model.safetensors")
    assert Checkpoint(folder).beside == [stray]
    assert [file.name for file in Checkpoint(folder).files] == ["model.safetensors"]
    assert Checkpoint(folder).bytes == Checkpoint(tiny_model).bytes
    assert lineage_of(folder) == lineage_of(tiny_model)
    stored, listed = CheckpointTensors(folder), FolderTensors(folder)
    for name, value in right.items():
        assert torch.equal(stored[name], value)
        assert torch.equal(torch.from_numpy(listed.read(name)), value)
    write_merged(folder, [], tmp_path / "merged", "float32")
    assert [file.name for file in (tmp_path / "merged").glob("*.safetensors")] == [
        "model.safetensors"
    ]
    assert torch.equal(logits(ModelRef(folder)), logits(ModelRef(tiny_model)))


def test_the_single_file_goes_before_an_index_as_in_transformers(
    tiny_model: Path, sharded: Path, tmp_path: Path
) -> None:
    save_file(zeros_of(tiny_model), sharded / "model.safetensors")
    checkpoint = Checkpoint(sharded)
    assert [file.name for file in checkpoint.files] == ["model.safetensors"]
    assert len(checkpoint.beside) > 3
    assert not logits(ModelRef(sharded)).any()  # what transformers reads
    write_merged(sharded, [], tmp_path / "merged", "float32")
    assert not (tmp_path / "merged/model.safetensors.index.json").exists()
    assert not any(value.any() for value in CheckpointTensors(tmp_path / "merged").values())


def test_an_index_names_its_shards_and_no_other(tiny_model: Path, sharded: Path) -> None:
    save_file(zeros_of(tiny_model), sharded / "model-00001-of-00001.safetensors")
    checkpoint = Checkpoint(sharded)
    assert checkpoint.beside == ["model-00001-of-00001.safetensors"]
    right = load_file(tiny_model / "model.safetensors")
    assert sorted(checkpoint.names()) == sorted(right)
    assert all(torch.equal(checkpoint.read(name), right[name]) for name in right)
    assert checkpoint.count == sum(value.numel() for value in right.values())
    checkpoint.check()


def test_a_missing_shard_and_a_wrong_index_are_named(sharded: Path) -> None:
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    file = next(iter(index["weight_map"].values()))
    other = next(one for one in index["weight_map"].values() if one != file)
    wrong = {**index["weight_map"], "model.extra.weight": other}
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": wrong}))
    with pytest.raises(InputError, match=r"lists 'model\.extra\.weight'"):
        check_model_folder(sharded)
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    (sharded / file).unlink()
    with pytest.raises(InputError, match=f"{file} is missing"):
        check_model_folder(sharded)


def test_a_tensor_in_two_shards_is_refused(sharded: Path) -> None:
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    first, second = sorted(set(index["weight_map"].values()))[:2]
    both = {**load_file(sharded / first), **load_file(sharded / second)}
    save_file(both, sharded / second)
    with pytest.raises(InputError, match=r"is in .* and in"):
        check_model_folder(sharded)


@pytest.mark.parametrize(("depth", "fault"), [(1, "weights of 2"), (3, "no weights for layer 2")])
def test_other_layers_than_the_configuration_has(depth: int, fault: str, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": depth}))
    with pytest.raises(InputError, match=f"config.json has {depth} layers.*{fault}"):
        check_model_folder(folder)


def test_missing_tensors_are_not_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"'model\.layers\.1\.mlp\.up_proj\.weight' first"):
        load_model(ModelRef(folder))


def test_an_adapter_beside_the_base_is_not_applied(
    tiny_model: Path, folder: Path, tmp_path: Path
) -> None:
    adapter = peft_adapter(tiny_model, tmp_path / "adapter")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(adapter / name, folder / name)
    assert torch.equal(logits(ModelRef(folder)), logits(ModelRef(tiny_model)))
    torch.testing.assert_close(
        logits(ModelRef(folder, folder)), logits(ModelRef(tiny_model, adapter))
    )
    write_merged(folder, [folder], tmp_path / "merged", "float32")
    assert not list((tmp_path / "merged").glob("adapter*"))
    torch.testing.assert_close(
        logits(ModelRef(tmp_path / "merged")), logits(ModelRef(tiny_model, adapter)),
        atol=1e-4, rtol=1e-4,
    )  # fmt: skip
    (tmp_path / "copy").mkdir()
    copy_description(folder, tmp_path / "copy")
    assert not list((tmp_path / "copy").glob("adapter*"))


def test_unread_weight_files_are_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Checkpoint(folder).say_beside(Log(None))
    assert not capsys.readouterr().err
    shutil.copy(folder / "model.safetensors", folder / "best.safetensors")
    Checkpoint(folder).say_beside(Log(None))
    assert "best.safetensors left unread" in capsys.readouterr().err


def test_gguf_files_hold_the_weights_that_are_read(
    folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    from edgetune.export.gguf.converter import GgufHeader
    from edgetune.export.gguf.f32 import convert_gguf
    from edgetune.runtimes.gguf_header import open_gguf

    make_model(tmp_path / "other", seed=7)
    shutil.copy(tmp_path / "other/model.safetensors", folder / "model-old.safetensors")
    convert_gguf(folder, tmp_path / "a.gguf", GgufHeader("a"))
    convert_gguf(tiny_model, tmp_path / "b.gguf", GgufHeader("a"))
    ours, right = open_gguf(tmp_path / "a.gguf"), open_gguf(tmp_path / "b.gguf")
    assert ours.tensors.keys() == right.tensors.keys()
    assert all((ours.read(name) == right.read(name)).all() for name in right.tensors)


def test_no_other_module_names_the_weight_files() -> None:
    package = Path(checkpoint.__file__).parents[1]
    names = {checkpoint.SINGLE, checkpoint.INDEX, "*.safetensors"}
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    }
    # resolve.py names patterns of files that a hub is asked for.
    assert found == {"models/checkpoint.py", "models/resolve.py"}
