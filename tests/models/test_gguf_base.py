"""A GGUF file's weights in a torch model: ggml's values in the right places, or a refusal."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from edgetune.errors import InputError, Unsupported
from edgetune.models.fused_lora import FusedForward, fuse_lora
from edgetune.models.gguf_base import check_types, load_gguf_base
from edgetune.models.gguf_linear import GgufLinear
from edgetune.models.gguf_match import match_gguf
from edgetune.models.load import load_base, load_model
from edgetune.models.ref import ModelRef
from edgetune.ops.dequantize import BLOCKS
from edgetune.runtimes.gguf_header import open_gguf
from tests.gguf_files import make_gguf
from tests.tiny_models import FAMILIES, make_adapter, make_tiny_model

IDS_BT = torch.tensor([[5, 9, 17, 33, 8, 70], [11, 12, 13, 14, 15, 16]])
QUANTIZED = ("Q4_K", "Q5_K", "Q6_K", "Q4_0", "Q8_0", "F16", "BF16")


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS_BT, use_cache=False).logits  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A Llama whose rows are whole blocks of K-quants, and its file in all types."""
    root = tmp_path_factory.mktemp("wide")
    folder = make_tiny_model("llama", root / "model", width=256, real_tokenizer=False)
    return folder, make_gguf(folder, root / "mixed.gguf", *QUANTIZED)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "gpt2"])
def test_an_f32_file_is_the_model(family: str, tmp_path: Path) -> None:
    folder = make_tiny_model(family, tmp_path / "model", real_tokenizer=False)
    path = make_gguf(folder, tmp_path / "plain.gguf")
    wanted = load_base(folder, False, "float32", "cpu")
    for packed in (False, True):
        found = load_gguf_base(folder, path, "float32", "cpu", packed)
        assert not found.training
        assert {n for n, _ in found.named_parameters()} == {n for n, _ in wanted.named_parameters()}
        assert torch.equal(logits_of(found), logits_of(wanted))


def test_values_are_those_of_the_file(wide: tuple[Path, Path]) -> None:
    folder, path = wide
    file, model = open_gguf(path), load_gguf_base(*wide, "float32", "cpu")
    assert {tensor.type for tensor in file.tensors.values()} == {*QUANTIZED, "F32"}
    for match in match_gguf(folder, path).matches:
        found = model.get_parameter(match.parameter).detach().numpy()
        wanted = file.read(match.name)
        if match.heads:  # rows in another order, none changed
            found, wanted = np.sort(found, axis=0), np.sort(wanted, axis=0)
        assert np.array_equal(found, wanted), match.name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_packed_layers_compute_what_unpacked_ones_do(wide: tuple[Path, Path], dtype: str) -> None:
    plain = load_gguf_base(*wide, dtype, "cpu", packed=False)
    packed = load_gguf_base(*wide, dtype, "cpu", packed=True)
    layers = [one for one in packed.modules() if isinstance(one, GgufLinear)]
    assert {one.ggml_type for one in layers} == set(QUANTIZED)
    assert len(layers) == 14 and all(one.weight.dtype == torch.uint8 for one in layers)
    assert torch.equal(logits_of(packed), logits_of(plain))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_over_packed_layers(
    wide: tuple[Path, Path], fused: bool, checkpointing: bool
) -> None:
    gradients = []
    for packed in (False, True):
        torch.manual_seed(0)
        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
        model: Any = get_peft_model(load_gguf_base(*wide, "float32", "cpu", packed), config).train()
        if checkpointing:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": False})
        if fused:
            fuse_lora(model)
            modules = [one for one in model.modules() if "forward" in vars(one)]
            assert sum(isinstance(vars(one)["forward"], FusedForward) for one in modules) == 14
        logits = model(input_ids=IDS_BT, use_cache=False).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), IDS_BT.flatten()).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    plain, packed_ones = gradients
    assert len(plain) == 28
    for name, gradient in plain.items():
        assert torch.equal(packed_ones[name], gradient), name


def test_an_adapter_over_a_file_is_loaded_again(wide: tuple[Path, Path], tmp_path: Path) -> None:
    folder, path = wide
    adapter = make_adapter(folder, tmp_path / "adapter")
    ref = ModelRef(folder, adapter, gguf=path)
    assert ModelRef.from_json(ref.to_json(tmp_path), tmp_path) == ref
    with_adapter, without = load_model(ref), load_model(ModelRef(folder, gguf=path))
    assert not torch.equal(logits_of(with_adapter), logits_of(without))
    assert torch.equal(
        logits_of(without), logits_of(load_gguf_base(folder, path, "float32", "cpu"))
    )
    with with_adapter.disable_adapter():  # type: ignore[operator]
        assert torch.equal(logits_of(with_adapter), logits_of(without))


def change_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def rename_token(folder: Path) -> None:
    path = folder / "tokenizer.json"
    state = json.loads(path.read_text())
    vocabulary = state["model"]["vocab"]
    one, other = list(vocabulary)[60:62]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    path.write_text(json.dumps(state))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"num_hidden_layers": 1}, "block_count is 2, and the folder's 1"),
        ({"intermediate_size": 96}, r"ffn_gate.weight is 128 x 64, and .*gate_proj.* 96 x 64"),
        ({"tie_word_embeddings": True}, "1 tensors that the model has no place for, 'output"),
        ({"attention_bias": True}, "has no tensor blk.0.attn_q.bias"),
        ({"rms_norm_eps": 1e-3}, "layer_norm_rms_epsilon"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, "rope.freq_base"),
        ({"num_key_value_heads": 1}, "head_count_kv is 2, and the folder's 1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_file_of_another_model_is_refused(
    change: dict[str, Any], what: str, tmp_path: Path
) -> None:
    folder = make_tiny_model("llama", tmp_path / "model", real_tokenizer=False)
    path = make_gguf(folder, tmp_path / "plain.gguf")
    change_config(folder, **change)
    with pytest.raises(InputError, match=f"of another model: .*{what}"):
        match_gguf(folder, path)


def test_a_file_of_another_family_or_tokenizer_is_refused(tmp_path: Path) -> None:
    llama = make_tiny_model("llama", tmp_path / "llama", real_tokenizer=False)
    qwen = make_tiny_model("qwen3", tmp_path / "qwen", real_tokenizer=False)
    path = make_gguf(llama, tmp_path / "llama.gguf")
    with pytest.raises(InputError, match="it is a llama, and the folder's model a qwen3"):
        match_gguf(qwen, path)
    rename_token(llama)
    with pytest.raises(InputError, match=r"its token \d+ is '.+', and the folder's tokenizer '.+'"):
        match_gguf(llama, path)
    with pytest.raises(InputError, match="no such GGUF file"):
        match_gguf(llama, tmp_path / "none.gguf")
    gpt2 = make_tiny_model("gpt2", tmp_path / "gpt2", real_tokenizer=False)
    with pytest.raises(Unsupported, match="over a GGUF file of a gpt2"):
        match_gguf(gpt2, path)


def test_a_type_without_a_kernel_is_refused_on_a_gpu(wide: tuple[Path, Path]) -> None:
    match = SimpleNamespace(name="blk.0.attn_q.weight", tensor=SimpleNamespace(type="Q3_K"))
    base: Any = SimpleNamespace(path=wide[1], matches=(match,))
    check_types(base, "cpu")
    with pytest.raises(Unsupported, match=r"blk.0.attn_q.weight is Q3_K"):
        check_types(base, "cuda")
    assert "Q3_K" not in BLOCKS


def test_types_without_a_definition_are_unpacked_on_a_cpu(tmp_path: Path) -> None:
    folder = make_tiny_model("llama", tmp_path / "model", width=256, real_tokenizer=False)
    path = make_gguf(folder, tmp_path / "mixed.gguf", "Q3_K", "Q4_K")
    packed = load_gguf_base(folder, path, "float32", "cpu", packed=True)
    kinds = [type(one) for name, one in packed.named_modules() if name.endswith("_proj")]
    assert {GgufLinear, torch.nn.Linear} == set(kinds)
    plain = load_gguf_base(folder, path, "float32", "cpu", packed=False)
    assert torch.equal(logits_of(packed), logits_of(plain))
