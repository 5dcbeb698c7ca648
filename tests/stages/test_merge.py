"""merge measures against what was trained, whatever that was, and ends where it is too far off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from edgetune.artifact import Artifact
from edgetune.cli.stage import open_trained
from edgetune.errors import GateFailed, InputError
from edgetune.facts import to_json
from edgetune.log import Log
from edgetune.models.lineage import stamp_adapter
from edgetune.models.merge import write_merged
from edgetune.models.ref import ModelRef
from edgetune.models.training_base import KEY as TRAINED_OVER
from edgetune.recipe import Recipe, Sections
from edgetune.stages.merge import run
from tests.models.test_merge import logits, random_adapter


def merge(folder: Path, adapters: list[Path], rows: Path, out: Path, **settings: Any) -> Any:
    recipe = Recipe.model_validate(
        {"model": {"path": str(folder)}, "data": {"train": str(rows)}, "merge": settings}
    )
    *earlier, last = adapters
    parent = open_trained(last, "--adapter", {"model": str(folder)}, tuple(earlier))
    out.mkdir()
    return to_json(
        run(Sections(recipe, ("device", "data", "merge")), {"tune": parent}, out, Log(None))
    )


@pytest.mark.parametrize(("dtype", "most"), [("float32", 1e-5), ("bfloat16", 1e-2)])
def test_a_right_merge_holds_its_gate(
    dtype: str, most: float, tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    adapter = random_adapter(tiny_model, tmp_path / "a")
    (gate,) = merge(tiny_model, [adapter], device_rows, tmp_path / "out", dtype=dtype)["gates"]
    assert gate["ok"] and gate["name"] == "merge_kl_answer_tokens"
    assert gate["value"] <= gate["limit"] <= most


def test_what_was_not_trained_fails(
    tiny_model: Path, device_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter over NF4 in the original base, and a fold that is wrong in float32."""
    adapter = random_adapter(tiny_model, tmp_path / "a", nf4=True)
    original = {"trained_on": "nf4:float32", "base": "original"}
    for dtype in ("bfloat16", "float32"):
        with pytest.raises(GateFailed, match=r"from what was trained; the limit is") as failed:
            merge(tiny_model, [adapter], device_rows, tmp_path / dtype, dtype=dtype, **original)
        assert failed.value.exit_code == 3 and not failed.value.result["gate"]["ok"]
        assert not (tmp_path / dtype / "model").exists()
    accepted = {**original, "max_kl": 5.0}
    (gate,) = merge(tiny_model, [adapter], device_rows, tmp_path / "own", **accepted)["gates"]
    assert gate["limit"] == 5.0
    facts = merge(tiny_model, [adapter], device_rows, tmp_path / "auto", trained_on="nf4:float32")
    assert facts["chosen"] == "dequantized" and facts["trained_on"] == "nf4:float32"


def test_a_second_qlora_adapter_is_measured_over_nf4(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    first = random_adapter(tiny_model, tmp_path / "first", nf4=True)
    stamp_adapter(first, tiny_model, {TRAINED_OVER: "nf4:float32"})
    once = tmp_path / "once"
    write_merged(tiny_model, [first], once, "bfloat16", "float32")
    second = random_adapter(once, tmp_path / "second", nf4=True)
    tensors = load_file(second / "adapter_model.safetensors")
    other = {name: 0.9 * value for name, value in tensors.items()}
    save_file(other, second / "adapter_model.safetensors", {"format": "pt"})
    stamp_adapter(second, once, {TRAINED_OVER: "nf4:float32"})
    facts = merge(tiny_model, [first, second], device_rows, tmp_path / "out")
    far, near = facts["candidates"]
    assert facts["chosen"] == "dequantized" and near["kl_answer_tokens"] < 1e-2
    assert far["kl_answer_tokens"] > 3 * near["kl_answer_tokens"]
    trained = logits(ModelRef(once, second, nf4=True)).log_softmax(-1)
    merged = logits(ModelRef(tmp_path / "out/model")).log_softmax(-1)
    assert (trained.exp() * (trained - merged)).sum(-1).mean() < 1e-2


def test_two_adapters_of_unknown_bases_are_refused(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    adapters = [random_adapter(tiny_model, tmp_path / name) for name in ("a", "b")]
    path = adapters[1] / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "lora_alpha": 8}))
    with pytest.raises(InputError, match="nothing says whether this adapter was trained over NF4"):
        merge(tiny_model, adapters, device_rows, tmp_path / "out")


def test_what_an_adapter_says_of_itself_is_not_overruled(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    adapter = random_adapter(tiny_model, tmp_path / "a")
    stamp_adapter(adapter, tiny_model, {TRAINED_OVER: "original"})
    with pytest.raises(InputError, match=r"trained_on is nf4, and the adapter's file says"):
        merge(tiny_model, [adapter], device_rows, tmp_path / "out", trained_on="nf4")


def test_the_base_is_part_of_a_foreign_adapters_key(tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    adapter = random_adapter(tiny_model, tmp_path / "a")
    other = Path(shutil.copytree(tiny_model, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "rope_theta": 5e5}))
    keys: set[str] = set()
    for base in (tiny_model, other):
        made: Artifact = open_trained(adapter, "--adapter", {"model": str(base)})
        keys.add(made.key)
    assert len(keys) == 2
