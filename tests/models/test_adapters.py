"""A folded adapter computes the same and is never rounded; a saved one is equal in each process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from edgetune.models.adapters import (
    add_adapter,
    continue_adapter,
    fold_float32,
    save_adapter,
)
from edgetune.models.load import load_base, load_model
from edgetune.models.merge import write_merged
from edgetune.models.ref import ModelRef
from edgetune.recipe import TuneSection
from tests.tiny_models import make_tiny_model

IDS_BT = torch.arange(3, 35)[None]


def move(model: Any) -> Any:
    """Move all that is trained, as a training does."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.03 * torch.randn_like(parameter)
    return model.eval()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(input_ids=IDS_BT).logits


@pytest.mark.parametrize(("nf4", "dtype"), [(False, "float32"), (True, "float32")])
def test_merged_model_has_equal_logits(tiny_model: Path, nf4: bool, dtype: str) -> None:
    model = add_adapter(load_base(tiny_model, nf4, dtype, "cpu"), TuneSection(rank=4), seed=0)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    ids_BT = torch.randint(5, 100, (2, 9))
    with torch.no_grad():
        before_BTV = model(input_ids=ids_BT).logits
        folded = fold_float32(model)
        after_BTV = folded(input_ids=ids_BT).logits
    assert not [name for name, _ in folded.named_parameters() if "lora_" in name]
    torch.testing.assert_close(after_BTV, before_BTV, rtol=1e-4, atol=1e-4)


def test_rounded_weights_are_not_merged_into(tiny_model: Path) -> None:
    model = add_adapter(load_base(tiny_model, False, "bfloat16", "cpu"), TuneSection(rank=4), 0)
    assert fold_float32(model) is model
    plain = load_base(tiny_model, False, "bfloat16", "cpu")
    assert fold_float32(plain) is plain


@pytest.mark.parametrize("family", ["llama", "qwen2", "phi3", "gpt2"])
@pytest.mark.parametrize(
    "settings",
    [
        {"rslora": True},
        {"dora": True},
        {"init": "pissa"},
        {"init": "pissa", "dora": True},
        {"rank_pattern": {"layers.1.*|h.1.*": 2}, "alpha_pattern": {"down_proj|c_proj": 5.0}},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens|wte", "norm|ln_f"]},
        {"target_modules": ["down_proj|c_proj", "lm_head"]},
    ],
    ids=lambda settings: "+".join(settings),
)
def test_folded_equals_base_with_adapter_and_what_was_trained(
    tmp_path: Path, family: str, settings: dict[str, Any]
) -> None:
    base = make_tiny_model(family, tmp_path / "base", real_tokenizer=False)
    model = load_base(base, False, "float32", "cpu")
    names = [name for name, _ in model.named_modules()]
    chosen = {
        key: [end for one in value for end in one.split("|") if any(n.endswith(end) for n in names)]
        if isinstance(value, list)
        else value
        for key, value in settings.items()
    }
    trained = move(add_adapter(model, TuneSection(rank=4, method="lora", **chosen), seed=0))
    save_adapter(trained, tmp_path / "adapter")
    write_merged(base, [tmp_path / "adapter"], tmp_path / "merged", "float32")
    wanted = logits(trained)
    for ref in (ModelRef(base, tmp_path / "adapter"), ModelRef(tmp_path / "merged")):
        torch.testing.assert_close(logits(load_model(ref)), wanted, rtol=1e-4, atol=1e-4)
    assert (logits(load_model(ModelRef(base))) - wanted).abs().max() > 0.1


@pytest.mark.parametrize("saved", ["lm_head", "embed_tokens", "norm", "down_proj"])
def test_modules_trained_whole_learn_in_float32_over_bfloat16(tiny_model: Path, saved: str) -> None:
    section = TuneSection(rank=4, target_modules=["q_proj"], modules_to_save=[saved])
    model = add_adapter(load_base(tiny_model, False, "bfloat16", "cpu"), section, seed=0)
    whole = {n: p for n, p in model.named_parameters() if "modules_to_save" in n}
    assert whole and all(p.dtype == torch.float32 and p.requires_grad for p in whole.values())
    own = {name.split(".modules_to_save")[0].rpartition(".")[2] for name in whole}
    assert own == {saved}, "a name's end is a module, not some letters of one"
    model(input_ids=IDS_BT).logits.float().logsumexp(-1).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in whole.values())


@pytest.mark.parametrize("settings", [{"modules_to_save": ["lm_head"]}, {"init": "pissa"}])
def test_a_later_step_goes_on_from_what_was_saved(
    tiny_model: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    section = TuneSection(rank=4, method="lora", target_modules=["q_proj"], **settings)
    first = add_adapter(load_base(tiny_model, False, "bfloat16", "cpu"), section, seed=0)
    for parameter in first.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float() + 1e-3
    save_adapter(first, tmp_path / "one")
    start = ModelRef(tiny_model, tmp_path / "one", nf4_dtype="bfloat16")
    section = section.model_copy(update={"init": "default"})
    again = continue_adapter(load_base(tiny_model, False, "bfloat16", "cpu"), start, section)
    trained = [one for one in again.parameters() if one.requires_grad]
    assert trained and all(one.dtype == torch.float32 for one in trained)
    again(input_ids=IDS_BT).logits.float().logsumexp(-1).sum().backward()
    save_adapter(again, tmp_path / "two")
    one, two = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("one", "two"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_ranks_of_layers_keep_one_scale(tiny_model: Path) -> None:
    section = TuneSection(rank="auto", rank_budget=4, alpha=6.0, method="lora")
    ranks = {"model.layers.0.self_attn.q_proj": 9, "model.layers.1.mlp.up_proj": 4,
             "model.layers.1.mlp.down_proj": 0}  # fmt: skip
    for rslora in (False, True):
        model = add_adapter(
            load_base(tiny_model, False, "float32", "cpu"),
            section.model_copy(update={"rslora": rslora}), 0, ranks,
        )  # fmt: skip
        layers = {n: one for n, one in model.named_modules() if hasattr(one, "lora_A")}
        found = {n.removeprefix("base_model.model."): one.r["default"] for n, one in layers.items()}
        assert found == {name: rank for name, rank in ranks.items() if rank}
        scales = [one.scaling["default"] for one in layers.values()]
        assert scales == pytest.approx([6 / 4**0.5 if rslora else 6 / 4] * 2)


_SAVE = """
import sys
from pathlib import Path
from edgetune.models.adapters import add_adapter, save_adapter
from edgetune.models.load import load_base
from edgetune.recipe import TuneSection

model = load_base(Path(sys.argv[1]), False, "float32", "cpu")
save_adapter(add_adapter(model, TuneSection(rank=4), 0), Path(sys.argv[2]))
"""


def test_equal_adapters_of_two_processes_have_equal_bytes(tiny_model: Path, tmp_path: Path) -> None:
    saved = []
    for seed in ("1", "2"):  # of the order of sets
        folder = tmp_path / seed
        arguments = [sys.executable, "-c", _SAVE, str(tiny_model), str(folder)]
        subprocess.run(arguments, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
        saved.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
    assert saved[0].keys() == {"adapter_config.json", "adapter_model.safetensors"}
    assert saved[0] == saved[1]
