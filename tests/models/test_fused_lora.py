"""Fused LoRA layers: equal to PEFT's own, and PEFT's own wherever they would not be."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from edgetune.models import load
from edgetune.models.fused_lora import FusedForward, fuse_lora
from edgetune.models.load import load_base

IDS_BT = torch.tensor([[5, 9, 17, 33, 8, 70], [11, 12, 13, 14, 15, 16]])


def adapt(folder: Path, dtype: str = "float32", nf4: bool = False, **settings: Any) -> Any:
    """Return a PEFT model whose adapter does something."""
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", **settings)
    model = get_peft_model(load_base(folder, nf4, dtype, "cpu"), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def fused_layers(model: Any) -> list[str]:
    return [
        n for n, one in model.named_modules() if isinstance(vars(one).get("forward"), FusedForward)
    ]


def step(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    logits = model(input_ids=IDS_BT, use_cache=False).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), IDS_BT.flatten()).backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return logits.detach(), grads


# In bfloat16 both round every product to 8 bits, through all layers and back.
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("bfloat16", 6e-2)])
@pytest.mark.parametrize("weights", ["plain", "packed"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_logits_and_gradients_equal_those_of_peft(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch,
    dtype: str, bound: float, weights: str, checkpointing: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(load, "fits_unpacked", lambda _: False)
    model = adapt(tiny_model, dtype, nf4=weights == "packed").train()
    if checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    expected, expected_gradients = step(model)
    fuse_lora(model)
    assert len(fused_layers(model)) == sum(hasattr(one, "lora_A") for one in model.modules())
    found, gradients = step(model)
    assert gradients.keys() == expected_gradients.keys()
    pairs = [(found, expected), *((gradients[n], expected_gradients[n]) for n in gradients)]
    for one, other in pairs:
        assert one.dtype == other.dtype
        assert (one.double() - other.double()).norm() <= bound * other.double().norm()


def test_layers_of_one_input_are_computed_together(tiny_model: Path) -> None:
    model = adapt(tiny_model)
    fuse_lora(model)
    logits = model(input_ids=IDS_BT, use_cache=False).logits
    nodes, seen = [logits.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            nodes += [before for before, _ in node.next_functions]
    together = sum(node.name() == "_LoraLinearsBackward" for node in seen)
    assert together == 4 * model.config.num_hidden_layers  # QKV, output, gate and up, down


def test_a_layer_asked_alone_gives_its_own_output(tiny_model: Path) -> None:
    model = adapt(tiny_model)
    attention = model.base_model.model.model.layers[0].self_attn
    x, other = torch.randn(2, 1, 3, model.config.hidden_size)
    expected = [attention.k_proj(x), attention.k_proj(other), attention.v_proj(x)]
    fuse_lora(model)
    attention.q_proj(x)
    found = [attention.k_proj(x), attention.k_proj(other), attention.v_proj(x)]
    for one, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(one, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"lora_bias": True}])
def test_other_variants_keep_pefts_own(tiny_model: Path, settings: dict[str, Any]) -> None:
    model = adapt(tiny_model, **settings)
    fuse_lora(model)
    assert fused_layers(model) == []


def test_dropout_drops_as_often_in_training_and_nothing_in_evaluation(tiny_model: Path) -> None:
    model = adapt(tiny_model, lora_dropout=0.3)
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    for part in (layer.lora_A, layer.lora_B):
        part["default"].weight.data.fill_(1.0)
    x = torch.ones(1, 4000, model.config.hidden_size, requires_grad=True)
    base, expected = layer.base_layer(x), layer.eval()(x)
    fuse_lora(model)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-3)
    layer.train()
    update = (layer(x) - base).detach()
    whole = (expected - base).detach()
    assert not torch.equal(update, whole)
    mean, spread = update.mean() / whole.mean(), update[0, :, 0].std() / whole.mean()
    assert abs(float(mean) - 1) < 0.02
    width = x.shape[-1]
    assert abs(float(spread) / (0.3 / 0.7 / width) ** 0.5 - 1) < 0.1


def test_gradients_pass_through_the_numbers_that_dropout_kept(tiny_model: Path) -> None:
    model = adapt(tiny_model, lora_dropout=0.5).train()
    layer = model.base_model.model.model.layers[0].self_attn.o_proj
    x = torch.randn(2, 3, layer.base_layer.in_features, requires_grad=True)
    torch.manual_seed(1)
    expected = torch.autograd.grad(layer(x).square().sum(), [x, layer.lora_A["default"].weight])
    fuse_lora(model)
    torch.manual_seed(1)
    found = torch.autograd.grad(layer(x).square().sum(), [x, layer.lora_A["default"].weight])
    for one, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(one, wanted, rtol=1e-4, atol=1e-4)


def test_scale_of_rslora_is_kept(tiny_model: Path) -> None:
    model = adapt(tiny_model, use_rslora=True)
    expected, _ = step(model)
    fuse_lora(model)
    assert fused_layers(model)
    torch.testing.assert_close(step(model)[0], expected, rtol=1e-4, atol=1e-5)


def test_switched_off_merged_and_second_adapters_are_heeded(tiny_model: Path) -> None:
    model = adapt(tiny_model)
    fuse_lora(model)
    with torch.no_grad(), model.disable_adapter():
        found = model(input_ids=IDS_BT).logits
        torch.testing.assert_close(
            found, load_base(tiny_model, False, "float32", "cpu")(IDS_BT).logits
        )
    own = step(model)[0]
    model.add_adapter("second", LoraConfig(r=2, target_modules="all-linear"))
    torch.testing.assert_close(step(model)[0], own, rtol=1e-4, atol=1e-5)
    model.set_adapter("second")  # its B is zero
    torch.testing.assert_close(step(model)[0], found, rtol=1e-4, atol=1e-5)
    model.set_adapter("default")
    with torch.no_grad():
        merged = model.merge_and_unload()
        torch.testing.assert_close(merged(input_ids=IDS_BT).logits, own, rtol=1e-4, atol=1e-4)


def test_a_copy_uses_its_own_factors(tiny_model: Path) -> None:
    model = adapt(tiny_model)
    fuse_lora(model)
    own = step(model)[0]
    other = copy.deepcopy(model)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()
    torch.testing.assert_close(step(other)[0], own)
