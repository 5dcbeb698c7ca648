"""What decides: the measured KL, on the base the adapter was trained over; names explain."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgetune.compare.comparison import Check, Comparison, Fault
from edgetune.compare.model_spec import ModelSpec, resolve_spec
from edgetune.compare.verdict import decide
from edgetune.errors import InputError
from edgetune.models.lineage import stamp_adapter
from edgetune.models.merge import write_merged
from edgetune.models.training_base import KEY
from tests.diagnose.injected_faults import Chain, make_chain
from tests.diagnose.test_injected_faults import verify
from tests.diagnose.test_random_merges import save_adapter_and_merge


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return make_chain("llama", tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def over_nf4(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The right merge of the chain's adapter, had it been trained over NF4 of bfloat16."""
    out = tmp_path_factory.mktemp("nf4") / "merged"
    write_merged(chain.base, [chain.adapter], out, "float32", "bfloat16")
    return out


def change(folder: Path, out: Path, action: Callable[[dict[str, torch.Tensor]], None]) -> str:
    shutil.copytree(folder, out)
    tensors = load_file(out / "model.safetensors")
    action(tensors)
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    return str(out)


def names(found: Comparison) -> list[str]:
    return [fault.name for fault in found.faults]


# --- the base an adapter was trained over ------------------------------------------------------


@pytest.mark.parametrize("said", ["spec", "stamp"])
def test_an_adapter_over_nf4_is_held_against_nf4(
    said: str, chain: Chain, over_nf4: Path, tmp_path: Path
) -> None:
    trained = f"{chain.base}@nf4:bfloat16+{chain.adapter}"
    if said == "stamp":
        own = tmp_path / "adapter"
        shutil.copytree(chain.adapter, own)
        stamp_adapter(own, chain.base, {KEY: "nf4:bfloat16"})
        trained = f"{chain.base}+{own}"
    right, wrong = verify(trained, str(over_nf4)), verify(trained, str(chain.merged))
    assert right.ok, right.to_json()
    assert right.reference["trained_over"] == "nf4:bfloat16"
    assert names(wrong) == ["merged_over_original_base"]
    assert wrong.failing_check == "weights"


def test_an_adapter_over_the_original_is_not_held_against_nf4(chain: Chain, over_nf4: Path) -> None:
    assert not verify(chain.trained, str(over_nf4)).ok


def test_an_adapter_of_unknown_base_is_measured_over_both(chain: Chain, over_nf4: Path) -> None:
    trained = f"{chain.base}+{chain.adapter}"
    for right, assumed in ((chain.merged, "original"), (over_nf4, "nf4:bfloat16")):
        found = verify(trained, str(right))
        assert found.ok, found.to_json()
        assert found.reference["trained_over"] == assumed
        assert "nothing says" in found.notes[0]
        figures = found.find("weights").figures
        assert abs(figures["kl_over_nf4"] - figures["kl_over_original"]) > 1e-3
    turned = verify(str(over_nf4), trained)
    assert turned.ok and turned.candidate["trained_over"] == "nf4:bfloat16", turned.to_json()
    assert names(verify(trained, str(chain.base)))[0] == "adapter_not_applied"


def test_a_second_adapter_is_refused_by_name(chain: Chain) -> None:
    with pytest.raises(InputError, match="two adapters over one base"):
        resolve_spec(f"{chain.base}+{chain.adapter}+{chain.adapter}")


# --- KL decides --------------------------------------------------------------------------------


def test_other_tensors_that_compute_the_same_are_a_note(chain: Chain, tmp_path: Path) -> None:
    def reorder(tensors: dict[str, torch.Tensor]) -> None:
        mlp = "model.layers.1.mlp."
        order = torch.randperm(len(tensors[mlp + "up_proj.weight"]))
        for name in ("gate_proj", "up_proj"):
            tensors[f"{mlp}{name}.weight"] = tensors[f"{mlp}{name}.weight"][order]
        tensors[mlp + "down_proj.weight"] = tensors[mlp + "down_proj.weight"][:, order]

    found = verify(str(chain.merged), change(chain.merged, tmp_path / "x", reorder))
    assert found.ok, found.to_json()
    assert "tensor differs" in found.notes[0] and "worst of 3 tensors" in found.notes[0]


FAULT = Fault("weights", "tensor_differs", "it differs", "x", "convert it again")
_HF, _BF16, _GGUF = ("hf", "float32"), ("hf", "bfloat16"), ("gguf", "Q4_K_M")


@pytest.mark.parametrize(
    ("second", "kl", "within", "named", "own", "passes"),
    [
        (_HF, 1e-12, True, True, None, True),  # a note
        (_HF, 1e-12, False, False, None, True),  # near ties turned over
        (_HF, 1e-6, True, False, None, True),
        (_HF, 1e-6, True, True, None, False),
        (_HF, 1e-3, False, False, None, False),  # explained by nothing
        (_GGUF, 0.05, True, False, None, True),
        (_GGUF, 0.05, True, True, 0.04, True),
        (_GGUF, 0.05, True, True, 0.01, False),
        (_GGUF, 0.05, True, True, None, False),
        (_GGUF, 0.9, False, False, 0.8, True),  # what the types cost on this model
        (_BF16, 2e-3, False, False, 1.5e-3, True),
        (_BF16, 2e-3, False, True, 1.5e-3, False),
        (_BF16, 1e-4, True, True, 1e-6, False),
        (_GGUF, 0.9, False, True, 0.8, False),
        (_GGUF, 0.9, False, False, 0.1, False),
        (_GGUF, 0.9, False, False, None, False),
    ],
)
def test_a_verdict_needs_files_and_kl(
    second: tuple[str, str], kl: float, within: bool, named: bool, own: float | None, passes: bool
) -> None:
    a, b = (
        ModelSpec("a", "hf", Path("a"), "float32"),
        ModelSpec("b", second[0], Path("b"), second[1]),
    )
    measured = Check("weights", within, "KL", {"kl_mean": kl})
    check, faults, notes = decide(a, b, measured, [FAULT] if named else [], lambda: own)
    assert (check.ok is True and not faults) == passes
    assert len(notes) == (named and passes)


@pytest.mark.parametrize(("strength", "passes"), [(3e-3, False), (1e-4, True)])
def test_one_layer_of_a_weak_adapter_is_missed(
    strength: float, passes: bool, chain: Chain, tmp_path: Path
) -> None:
    """KL of 1e-6: below the limit of equal weights, above what they show, and named. At 1e-9 no
    answer could show it."""
    weak = tmp_path / "weak"
    shutil.copytree(chain.adapter, weak)
    tensors = load_file(weak / "adapter_model.safetensors")
    weaker = {n: t * (strength if "lora_B" in n else 1) for n, t in tensors.items()}
    save_file(weaker, weak / "adapter_model.safetensors", {"format": "pt"})
    write_merged(chain.base, [weak], tmp_path / "merged", "float32")
    key = "model.layers.1.self_attn.o_proj.weight"
    before = load_file(chain.base / "model.safetensors")[key]

    trained = f"{chain.base}@original+{weak}"
    assert verify(trained, str(tmp_path / "merged")).ok
    spoiled = change(tmp_path / "merged", tmp_path / "x", lambda t: t.update({key: before}))
    found = verify(trained, spoiled)
    assert found.find("weights").figures["kl_mean"] < 1e-5
    assert found.ok == passes, found.to_json()
    said = found.notes if passes else [fault.name for fault in found.faults]
    assert "layers" in said[0] and "dropped" in said[0]


def test_rounding_to_16_bits_is_what_our_own_copy_shows(chain: Chain, tmp_path: Path) -> None:
    write_merged(chain.base, [chain.adapter], tmp_path / "bf16", "bfloat16")
    assert verify(chain.trained, str(tmp_path / "bf16")).ok
    spoiled = change(
        tmp_path / "bf16", tmp_path / "x",
        lambda t: t["model.layers.0.mlp.down_proj.weight"].mul_(0.97),
    )  # fmt: skip
    found = verify(chain.trained, spoiled)
    assert not found.ok
    assert names(found) == ["tensor_scaled"]


def test_the_worst_tensor_is_named_not_the_first(chain: Chain, tmp_path: Path) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        embedding = tensors["model.embed_tokens.weight"]
        tensors["model.embed_tokens.weight"] = embedding.bfloat16().float()
        for layer, factor in ((0, 0.3), (1, 0.6)):
            key = f"model.layers.{layer}.self_attn.q_proj.weight"
            tensors[key] += factor * torch.randn_like(tensors[key]) * tensors[key].std()

    found = verify(str(chain.merged), change(chain.merged, tmp_path / "x", spoil))
    assert names(found) == ["tensor_differs", "tensor_rounded"]
    assert "layers.1.self_attn.q_proj" in found.faults[0].where
    assert "worst of 2 tensors" in found.faults[0].what


def test_nf4_is_no_licence_for_another_model(chain: Chain) -> None:
    """The KL of weights that nobody trained on was 'as usual for nf4'."""
    found = verify(f"{chain.base}@nf4+{chain.adapter}", str(chain.merged))
    check = found.find("weights")
    assert check.ok is False
    assert check.figures["limit"] == 1e-5


# --- templates and evidence --------------------------------------------------------------------


def test_a_template_may_be_brought_and_not_lost(chain: Chain, tmp_path: Path) -> None:
    shutil.copytree(chain.merged, tmp_path / "bare")
    (tmp_path / "bare/chat_template.jinja").unlink()
    bare = str(tmp_path / "bare")
    brought, lost = verify(bare, str(chain.merged)), verify(str(chain.merged), bare)
    assert brought.ok, brought.to_json()
    assert brought.find("template").ok is None
    assert lost.failing_check == "template", lost.to_json()


def test_evidence_shows_the_difference(chain: Chain, tmp_path: Path) -> None:
    shutil.copytree(chain.merged, tmp_path / "x")
    path = tmp_path / "x/chat_template.jinja"
    path.write_text(path.read_text() + "{{ '" + "y" * 30 + "DIFFERENCE' }}")
    found = verify(str(chain.merged), str(tmp_path / "x"))
    example = found.find("template").figures["examples"][0]
    assert "DIFFERENCE" in example["candidate"] and "DIFFERENCE" not in example["reference"]

    path = tmp_path / "x/tokenizer.json"
    state = json.loads(path.read_text())
    state["model"]["merges"] = [m for m in state["model"]["merges"] if "z" not in "".join(m)]
    path.write_text(json.dumps(state))
    found = verify(str(chain.merged), str(tmp_path / "x"))
    for example in found.find("tokenizer").figures["examples"]:
        assert example["reference"] != example["candidate"]
        assert "z" in example["text"]


def test_an_adapter_that_cannot_be_of_nf4_is_of_the_original(chain: Chain, tmp_path: Path) -> None:
    """PiSSA changes the base before it could be put into 4 bits."""
    config = {"r": 4, "init_lora_weights": "pissa", "target_modules": ["o_proj", "up_proj"]}
    save_adapter_and_merge(chain.base, config, 3, tmp_path)
    found = verify(f"{chain.base}+{tmp_path / 'adapter'}", str(tmp_path / "merged"))
    assert found.ok, found.to_json()
    assert found.reference["trained_over"] == "original"
    assert "over the original weights" in found.notes[0]
