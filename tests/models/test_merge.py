"""Merging: the sum is right, over the base that was trained on; foreign adapters are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edgetune.errors import InputError, Unsupported
from edgetune.models import load
from edgetune.models.adapters import add_adapter, save_adapter
from edgetune.models.lineage import lineage_of, read_stamp, stamp_adapter
from edgetune.models.load import load_base, load_model
from edgetune.models.merge import write_merged
from edgetune.models.nf4 import through_nf4
from edgetune.models.ref import ModelRef
from edgetune.recipe import TuneSection
from tests.conftest import make_model

IDS = torch.arange(3, 35)[None]


def random_adapter(base: Path, folder: Path, nf4: bool = False, **config: object) -> Path:
    """An adapter whose update is large enough to matter."""
    model = add_adapter(load_base(base, nf4, "float32", "cpu"), TuneSection(rank=4), seed=1)
    torch.manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.05)
    save_adapter(model, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


@torch.no_grad()
def logits(ref: ModelRef) -> torch.Tensor:
    return load_model(ref)(input_ids=IDS).logits


def test_folded_equals_base_with_adapter(tiny_model: Path, tmp_path: Path) -> None:
    adapter = random_adapter(tiny_model, tmp_path / "adapter")
    folded = write_merged(tiny_model, [adapter], tmp_path / "merged", "float32")
    wanted = logits(ModelRef(tiny_model, adapter))
    torch.testing.assert_close(logits(ModelRef(tmp_path / "merged")), wanted, atol=1e-4, rtol=1e-4)
    assert len(folded) == 2 * 7
    assert (wanted - logits(ModelRef(tiny_model))).abs().max() > 0.1, "the adapter did nothing"


def test_rslora_scale(tiny_model: Path, tmp_path: Path) -> None:
    adapter = random_adapter(tiny_model, tmp_path / "adapter", use_rslora=True)
    write_merged(tiny_model, [adapter], tmp_path / "merged", "float32")
    wanted = logits(ModelRef(tiny_model, adapter))
    torch.testing.assert_close(logits(ModelRef(tmp_path / "merged")), wanted, atol=1e-4, rtol=1e-4)


def test_adapter_over_nf4_fits_the_dequantized_base(tiny_model: Path, tmp_path: Path) -> None:
    adapter = random_adapter(tiny_model, tmp_path / "adapter", nf4=True)
    write_merged(tiny_model, [adapter], tmp_path / "original", "float32")
    write_merged(tiny_model, [adapter], tmp_path / "dequantized", "float32", nf4_dtype="float32")
    trained = logits(ModelRef(tiny_model, adapter, nf4=True))
    near = (logits(ModelRef(tmp_path / "dequantized")) - trained).abs().max()
    far = (logits(ModelRef(tmp_path / "original")) - trained).abs().max()
    assert near < 1e-3 < far


def test_through_nf4_is_what_the_loader_made(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bitsandbytes.functional import dequantize_4bit
    from safetensors.torch import load_file

    weights = load_file(tiny_model / "model.safetensors")
    name = "model.layers.1.mlp.down_proj"
    unpacked = load_base(tiny_model, True, "float32", "cpu").get_submodule(name).weight
    monkeypatch.setattr(load, "fits_unpacked", lambda model: False)
    packed = load_base(tiny_model, True, "float32", "cpu").get_submodule(name).weight
    made = through_nf4(weights[f"{name}.weight"], torch.float32)
    assert torch.equal(made, unpacked.float())
    assert torch.equal(made, dequantize_4bit(packed.data, packed.quant_state).float())
    assert not torch.equal(made, weights[f"{name}.weight"].float())


def test_adapter_of_another_base_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    deeper = make_model(tmp_path / "deeper", layers=3)
    adapter = random_adapter(deeper, tmp_path / "adapter")
    with pytest.raises(InputError, match="which this base does not have"):
        write_merged(tiny_model, [adapter], tmp_path / "merged", "float32")
    with pytest.raises(InputError, match="which this base does not have"):
        load_model(ModelRef(tiny_model, adapter))
    wider = make_model(tmp_path / "wider", hidden=96)
    adapter = random_adapter(wider, tmp_path / "adapter-wide")
    with pytest.raises(InputError, match="channels where the base has"):
        load_model(ModelRef(tiny_model, adapter))


def peft_adapter(base: Path, folder: Path, **config: object) -> Path:
    """An adapter as PEFT makes it of ``config``, every trained tensor moved from where it began."""
    from peft import LoraConfig, get_peft_model

    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], **config}
    model = get_peft_model(load_base(base, False, "float32", "cpu"), LoraConfig(**settings))
    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize(
    "config",
    [
        {"use_dora": True},
        {"use_rslora": True, "r": 8},
        {"alpha_pattern": {"model.layers.0.self_attn.q_proj": 32}},
        {"rank_pattern": {"model.layers.1.mlp.down_proj": 2}},
    ],
    ids=lambda config: next(iter(config)),
)
def test_merged_variants_equal_peft_s(
    config: dict[str, object], tiny_model: Path, tmp_path: Path
) -> None:
    adapter = peft_adapter(tiny_model, tmp_path / "adapter", **config)
    write_merged(tiny_model, [adapter], tmp_path / "merged", "float32")
    wanted = logits(ModelRef(tiny_model, adapter))
    torch.testing.assert_close(logits(ModelRef(tmp_path / "merged")), wanted, atol=1e-4, rtol=1e-4)
    assert (wanted - logits(ModelRef(tiny_model))).abs().max() > 0.1, "the adapter did nothing"


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["q_proj", "lm_head"]},
        {"modules_to_save": ["embed_tokens", "lm_head"]},
    ],
    ids=["embedding", "head", "trained whole"],
)
def test_embeddings_and_head(config: dict[str, object], tmp_path: Path) -> None:
    untied = make_model(tmp_path / "untied", tied=False)
    adapter = peft_adapter(untied, tmp_path / "adapter", **config)
    write_merged(untied, [adapter], tmp_path / "merged", "float32")
    wanted = logits(ModelRef(untied, adapter))
    torch.testing.assert_close(logits(ModelRef(tmp_path / "merged")), wanted, atol=1e-4, rtol=1e-4)
    tied = make_model(tmp_path / "tied")  # PEFT's own merge is wrong there, its live model right
    adapter = peft_adapter(tied, tmp_path / "adapter-tied", **config)
    write_merged(tied, [adapter], tmp_path / "apart", "float32")
    wanted = logits(ModelRef(tied, adapter))
    torch.testing.assert_close(logits(ModelRef(tmp_path / "apart")), wanted, atol=1e-4, rtol=1e-4)
    assert json.loads((tmp_path / "apart/config.json").read_text())["tie_word_embeddings"] is False
    assert "lm_head.weight" in load_file(tmp_path / "apart/model.safetensors")


def test_adapters_are_merged_in_the_order_of_training(tiny_model: Path, tmp_path: Path) -> None:
    first = peft_adapter(tiny_model, tmp_path / "first")
    stamp_adapter(first, tiny_model)
    write_merged(tiny_model, [first], tmp_path / "once", "float32")
    second = peft_adapter(tmp_path / "once", tmp_path / "second", use_rslora=True)
    stamp_adapter(second, tmp_path / "once")
    write_merged(tiny_model, [first, second], tmp_path / "both", "float32")
    wanted = logits(ModelRef(tmp_path / "once", second))
    torch.testing.assert_close(logits(ModelRef(tmp_path / "both")), wanted, atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match="in the order they were trained"):
        write_merged(tiny_model, [second], tmp_path / "wrong", "float32")
    with pytest.raises(InputError, match="folded into these weights already"):
        write_merged(tmp_path / "once", [first], tmp_path / "twice", "float32")
    other = make_model(tmp_path / "other", seed=5)
    with pytest.raises(InputError, match="trained on another base"):
        write_merged(other, [first], tmp_path / "foreign", "float32")


def test_merging_into_four_bits_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    adapter = random_adapter(tiny_model, tmp_path / "adapter")
    quantized = tmp_path / "quantized"
    shutil.copytree(tiny_model, quantized)
    config = json.loads((quantized / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (quantized / "config.json").write_text(json.dumps(config))
    with pytest.raises(Unsupported, match="bitsandbytes already"):
        write_merged(quantized, [adapter], tmp_path / "merged", "float32")


def test_shards_are_written_tensor_by_tensor(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    sharded = tmp_path / "sharded"
    load_base(tiny_model, False, "float32", "cpu").save_pretrained(sharded, max_shard_size="60KB")
    for file in tiny_model.glob("tokenizer*"):
        shutil.copy(file, sharded / file.name)
    assert len(list(sharded.glob("*.safetensors"))) > 3
    adapter = random_adapter(tiny_model, tmp_path / "adapter")
    write_merged(sharded, [adapter], tmp_path / "merged", "bfloat16")
    write_merged(tiny_model, [adapter], tmp_path / "whole", "bfloat16")
    tensors = load_file(tmp_path / "whole/model.safetensors")
    found = {
        name: tensor
        for file in (tmp_path / "merged").glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    ref = ModelRef(tmp_path / "merged")
    torch.testing.assert_close(logits(ref), logits(ModelRef(tmp_path / "whole")))


def test_a_stamp_gives_the_same_bytes_every_time(tiny_model: Path, tmp_path: Path) -> None:
    adapter = random_adapter(tiny_model, tmp_path / "adapter")
    file = adapter / "adapter_model.safetensors"
    before = load_file(file)
    stamp_adapter(adapter, tiny_model)
    with file.open("rb") as raw:
        header = raw.read(int.from_bytes(raw.read(8), "little"))
    # Not from a set or a map whose order changes from process to process.
    assert header.startswith(b'{"__metadata__":{"format":"pt","edgetune.lineage":"')
    assert read_stamp([adapter / "adapter_model.safetensors"]) == lineage_of(tiny_model)
    after = load_file(file)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_cut_off_adapter_is_named(tiny_model: Path, tmp_path: Path) -> None:
    adapter = random_adapter(tiny_model, tmp_path / "adapter")
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(InputError, match=r"adapter_model\.safetensors.*not a whole"):
        write_merged(tiny_model, [adapter], tmp_path / "merged", "float32")
