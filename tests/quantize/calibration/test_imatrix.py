"""The importance matrix: the mean squared inputs, under llama.cpp's names and in its format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader

from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.quantize.calibration.activations import collect_activation_stats
from edgetune.quantize.calibration.imatrix import (
    check_imatrix,
    describe_imatrix,
    name_for_gguf,
    read_imatrix,
    write_imatrix,
)

SEQUENCES = [[5, 9, 11, 30, 44], [7, 8, 120], list(range(3, 60))]


@pytest.fixture(scope="module")
def written(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    energy = collect_activation_stats(load_model(ModelRef(tiny_model)), SEQUENCES, Log(quiet=True))
    path = tmp_path_factory.mktemp("imatrix") / "imatrix.gguf"
    write_imatrix(name_for_gguf(energy, "llama", 2, tied=True), path, "three sequences")
    return path


def test_holds_the_mean_squared_inputs(written: Path, tiny_model: Path) -> None:
    model = load_model(ModelRef(tiny_model))
    seen: list[torch.Tensor] = []
    layer = model.model.layers[1].mlp.down_proj
    layer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0][0].double()))
    with torch.inference_mode():
        for ids in SEQUENCES:
            model(torch.tensor([ids]))
    wanted = torch.cat(seen).square().mean(0).numpy()
    found = read_imatrix(written)["blk.1.ffn_down.weight"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_covers_every_quantized_weight_and_the_tied_head(written: Path) -> None:
    parts = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    blocks = {f"blk.{layer}.{part}.weight" for layer in (0, 1) for part in parts}
    assert set(read_imatrix(written)) == blocks | {"token_embd.weight"}


def test_an_untied_head_has_its_own_name(tiny_model: Path) -> None:
    energy = collect_activation_stats(load_model(ModelRef(tiny_model)), SEQUENCES, Log(quiet=True))
    assert "output.weight" in name_for_gguf(energy, "llama", 2, tied=False).sums


def test_is_in_llama_cpps_format(written: Path) -> None:
    reader = GGUFReader(written)
    fields = {key: entry.contents() for key, entry in reader.fields.items()}
    assert fields["general.type"] == "imatrix"
    assert fields["imatrix.datasets"] == ["three sequences"]
    assert (fields["imatrix.chunk_count"], fields["imatrix.chunk_size"]) == (3, 57)
    shapes = {tensor.name: tensor.shape.tolist() for tensor in reader.tensors}
    assert shapes["blk.0.attn_q.weight.in_sum2"] == [64, 1]
    assert shapes["blk.0.attn_q.weight.counts"] == [1, 1]
    counts = next(t for t in reader.tensors if t.name == "blk.0.attn_q.weight.counts")
    assert counts.data.item() == sum(map(len, SEQUENCES))


def test_refuses_no_data_and_other_files(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to calibrate on"):
        collect_activation_stats(load_model(ModelRef(tiny_model)), [], Log(quiet=True))
    (tmp_path / "x.gguf").write_bytes(b"no GGUF file, but some bytes of text to read")
    with pytest.raises(InputError, match="not an importance matrix"):
        read_imatrix(tmp_path / "x.gguf")


def test_refuses_the_matrix_of_another_model() -> None:
    shapes = {"a.weight": (8, 64), "exps.weight": (4, 8, 64), "norm.weight": (64,)}
    good = {"a.weight": np.ones(64), "exps.weight": np.ones((4, 64)), "norm.weight": np.ones(64)}
    path = Path("plan/imatrix.gguf")
    check_imatrix(good, shapes, path)
    for name, means, said in (
        ("b.weight", np.ones(64), "weighs 'b.weight', which the model does not have"),
        ("a.weight", np.ones(32), "has 32 columns for 'a.weight', the model 64"),
        ("exps.weight", np.ones((2, 64)), "2 x 64 columns for 'exps.weight', the model 4 x 64"),
    ):
        with pytest.raises(InputError, match=said) as error:
            check_imatrix(good | {name: means}, shapes, path)
        assert error.value.where == str(path) and error.value.exit_code == 2


def test_metadata_describes_the_calibration(written: Path) -> None:
    said = describe_imatrix(written)
    assert said["quantize.imatrix.dataset"] == "three sequences"
    assert (said["quantize.imatrix.entries_count"], said["quantize.imatrix.chunks_count"]) == (
        15,
        3,
    )
    assert len(str(said["edgetune.imatrix.sha256"])) == 64


def test_leaves_out_what_the_file_has_no_tensor_for(tiny_model: Path) -> None:
    energy = collect_activation_stats(load_model(ModelRef(tiny_model)), SEQUENCES, Log(quiet=True))
    named = name_for_gguf(energy, "llama", 2, tied=True, tensors=["blk.0.ffn_up.weight"])
    assert list(named.sums) == ["blk.0.ffn_up.weight"]
