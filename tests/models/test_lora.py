"""Kinds of PEFT adapters one by one: folded as PEFT's live model computes them, or refused."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from edgetune.errors import EdgetuneError, InputError, Unsupported
from edgetune.models.load import load_model
from edgetune.models.lora import Adapter
from edgetune.models.merge import write_merged
from edgetune.models.ref import ModelRef
from tests.conftest import make_tokenizer
from tests.models.test_random_adapters import RandomAdapter, live_logits, our_logits
from tests.random_adapters import make_base, save_adapter


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], Path]:
    folder = tmp_path_factory.mktemp("bases")
    wanted = (("llama", False), ("llama", True), ("qwen2", False), ("gpt2", True))
    return {one: make_base(folder / "-".join(map(str, one)), *one) for one in wanted}


CONFIGS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "alpha by suffix": ("llama", False, {"alpha_pattern": {"v_proj": 64}}),
    "alpha by expression, rsLoRA": (
        "llama", False, {"alpha_pattern": {r"layers\.[1-3]\..*": 24}, "use_rslora": True},
    ),
    "the first pattern counts": (
        "llama", False, {"alpha_pattern": {r".*\.1\..*": 2, "q_proj": 48}},
    ),
    "pissa": ("llama", False, {"init_lora_weights": "pissa", "rank_pattern": {"v_proj": 6}}),
    "pissa on [in, out]": (
        "gpt2", True, {"init_lora_weights": "pissa", "target_modules": ["c_attn", "c_fc"]},
    ),
    "olora": ("llama", False, {"init_lora_weights": "olora", "use_rslora": True}),
    "bias all": ("qwen2", False, {"bias": "all", "target_modules": ["q_proj", "o_proj"]}),
    "bias lora_only": ("qwen2", False, {"bias": "lora_only"}),
    "lora_bias": ("qwen2", False, {"lora_bias": True}),
    "dora on an embedding": (
        "llama", False, {"use_dora": True, "target_modules": ["embed_tokens"]},
    ),
    "dora on a tied head": ("llama", True, {"use_dora": True, "target_modules": ["lm_head"]}),
    "one layer": ("llama", False, {"layers_to_transform": [1], "layers_pattern": "layers"}),
    "single tokens, tied": ("llama", True, {"trainable_token_indices": [5, 9]}),
    "tied embedding alone": ("llama", True, {"target_modules": ["embed_tokens"]}),
    "tied head saved whole": (
        "gpt2", True, {"target_modules": ["c_fc"], "modules_to_save": ["lm_head"]},
    ),
}  # fmt: skip


def make(
    bases: dict[tuple[str, bool], Path], folder: Path, family: str, tied: bool, **config: Any
) -> RandomAdapter:
    whole = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **config}
    save_adapter(bases[family, tied], folder, whole, seed=4)
    return RandomAdapter(bases[family, tied], folder, family, tied, whole)


@pytest.mark.parametrize("name", CONFIGS)
def test_merged_weight_equals_peft_s(
    name: str, bases: dict[tuple[str, bool], Path], tmp_path: Path
) -> None:
    family, tied, config = CONFIGS[name]
    made = make(bases, tmp_path / "a", family, tied, **config)
    write_merged(made.base, [made.folder], tmp_path / "merged", "float32")
    wanted = live_logits(made)
    torch.testing.assert_close(our_logits(ModelRef(tmp_path / "merged")), wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        our_logits(ModelRef(made.base, made.folder)), wanted, atol=1e-4, rtol=0
    )
    assert (our_logits(ModelRef(made.base)) - wanted).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"init_lora_weights": "corda"}, "corda.*covariance"),
        ({"init_lora_weights": "loftq"}, "loftq.*LoftQ quantized"),
        ({"init_lora_weights": "lora_ga"}, "gradients"),
        ({"init_lora_weights": "pissa_niter_4"}, "another one at each loading"),
        ({"init_lora_weights": "of_tomorrow"}, "does not know"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"target_parameters": ["experts.up"]}, "target_parameters"),
        ({"peft_type": "LOHA"}, "LOHA, not LORA"),
        ({"shiny_config": {"a": 1}}, "sets 'shiny_config'"),
        ({"r": 3}, "has rank 4, and adapter_config.json says 3"),
        ({"alpha_pattern": {"q_proj(": 2}}, "no regular expression"),
    ],
    ids=str,
)
def test_variants_that_cannot_be_merged_are_refused_by_name(
    changes: dict[str, Any], fault: str, bases: dict[tuple[str, bool], Path], tmp_path: Path
) -> None:
    made = make(bases, tmp_path / "a", "llama", False)
    path = made.folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(InputError, match=fault):
        write_merged(made.base, [made.folder], tmp_path / "merged", "float32")
    with pytest.raises(InputError, match=fault):
        load_model(ModelRef(made.base, made.folder))


def test_pickled_and_missing_weights(bases: dict[tuple[str, bool], Path], tmp_path: Path) -> None:
    made = make(bases, tmp_path / "a", "llama", False)
    (made.folder / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no adapter_model\.safetensors"):
        Adapter(made.folder, made.base)
    (made.folder / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match="pickled"):
        Adapter(made.folder, made.base)


def test_a_bias_without_a_place_is_refused(
    bases: dict[tuple[str, bool], Path], tmp_path: Path
) -> None:
    made = make(bases, tmp_path / "a", "llama", False, lora_bias=True)
    with pytest.raises(Unsupported, match="a bias, which this base's layer does not have"):
        write_merged(made.base, [made.folder], tmp_path / "merged", "float32")


@pytest.mark.parametrize("rows", [403, 397])
@pytest.mark.parametrize("saved", [["embed_tokens", "lm_head"], []])
def test_a_vocabulary_of_another_size(
    rows: int, saved: list[str], bases: dict[tuple[str, bool], Path], tmp_path: Path
) -> None:
    """Rows were added, or padding left out, before the training."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base, folder = bases["llama", False], tmp_path / "a"
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.resize_token_embeddings(rows, mean_resizing=False)
    targets = ["q_proj"] if saved else ["q_proj", "embed_tokens", "lm_head"]
    torch.manual_seed(6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = LoraConfig(r=2, target_modules=targets, modules_to_save=saved or None)
        model = get_peft_model(model, config)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.05 * torch.randn_like(parameter)
        model.save_pretrained(str(folder), save_embedding_layers=True)
    ids = torch.tensor([[3, 390, 20, 7]])
    with torch.no_grad():
        wanted = model.eval()(input_ids=ids).logits
    if rows > 400:
        with pytest.raises(EdgetuneError, match="403 tokens and the base 400"):
            write_merged(base, [folder], tmp_path / "refused", "float32")
    make_tokenizer(folder, size=395)
    write_merged(base, [folder], tmp_path / "merged", "float32")
    with torch.no_grad():
        merged = load_model(ModelRef(tmp_path / "merged"))(input_ids=ids).logits
        reference = load_model(ModelRef(base, folder))(input_ids=ids).logits
    torch.testing.assert_close(merged, wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(reference, wanted, atol=1e-4, rtol=0)
    assert json.loads((tmp_path / "merged/config.json").read_text())["vocab_size"] == rows
    copied = (tmp_path / "merged/tokenizer.json").read_text()
    assert copied == (folder / "tokenizer.json").read_text()


def test_all_linear_layers_go_through_nf4(
    bases: dict[tuple[str, bool], Path], tmp_path: Path
) -> None:
    """In QLoRA the layers without an adapter are in 4 bits too, GPT-2's [in, out] ones included."""
    for family, targets in (("llama", ["q_proj"]), ("gpt2", ["c_attn"])):
        tied = family == "gpt2"
        made = make(bases, tmp_path / family, family, tied, target_modules=targets)
        out = tmp_path / f"{family}-merged"
        write_merged(made.base, [made.folder], out, "float32", "float32")
        trained = our_logits(ModelRef(made.base, made.folder, nf4=True))
        torch.testing.assert_close(our_logits(ModelRef(out)), trained, atol=1e-4, rtol=0)
        shutil.rmtree(out)
