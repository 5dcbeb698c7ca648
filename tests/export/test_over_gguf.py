"""An adapter over the GGUF file that it was trained over: llama.cpp computes what torch does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetune.artifact import Artifact, hash_file
from edgetune.errors import InputError, Unsupported
from edgetune.export.gguf.adapter import write_gguf_adapter
from edgetune.export.over_gguf import find_over_gguf, find_pair, write_plain
from edgetune.facts import to_json
from edgetune.log import Log
from edgetune.models.lineage import stamp_adapter
from edgetune.models.ref import ModelRef
from edgetune.models.training_base import KEY
from edgetune.recipe import Recipe, Sections
from edgetune.runtimes.gguf_header import open_gguf
from edgetune.runtimes.llamacpp import LlamaCpp
from edgetune.stages import export
from tests.gguf_files import make_gguf
from tests.tiny_models import make_adapter, make_tiny_model

TYPES = ("Q4_K", "Q6_K", "Q5_K", "Q8_0", "Q4_0", "F16")


def tuned_over(root: Path, *types: str) -> Artifact:
    """An adapter over a file of these types, as `tune` leaves it."""
    folder = make_tiny_model("llama", root / "model", width=256, real_tokenizer=False)
    path = make_gguf(folder, root / "base.gguf", *types)
    adapter = make_adapter(folder, root / "adapter")
    stamp_adapter(adapter, folder, {KEY: f"gguf:{hash_file(path)}"})
    ref = ModelRef(folder, adapter, gguf=path)
    facts = {"model": ref.to_json(root), "contract": str(folder)}
    return Artifact(root, "adapter", "tune", "t", facts=facts)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    rows = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [json.dumps({"prompt": f"light {n}", "completion": f"on {n}"}) for n in range(12)]
    rows.write_text("\n".join(lines))
    return Recipe.model_validate(
        {
            "name": "tiny",
            "model": {"path": "unused"},
            "data": {"train": str(rows), "test": str(rows), "max_length": 64},
            "export": {"check_rows": 4},
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def shipped(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(tune, export, facts) over a file of all types."""
    root = tmp_path_factory.mktemp("over")
    tune = tuned_over(root, *TYPES)
    out = root / "export"
    out.mkdir()
    names = ("file_name", "device", "data", "quantize", "export")
    facts = to_json(export.run(Sections(recipe, names), {"tune": tune}, out, Log()))
    return tune, Artifact(out, "files", "export", "e", facts=facts), facts


def test_llama_cpp_gives_the_logits_of_the_training(shipped: Any) -> None:
    *_, facts = shipped
    (adapter,) = facts["adapters"]
    assert adapter["kl_all_tokens"] <= 1e-5 and adapter["top1_all_tokens"] == 1.0
    gates = {gate["name"]: gate for gate in facts["gates"]}
    assert gates["adapter.gguf kl_all_tokens_to_base_and_adapter"]["limit"] == 1e-5
    assert all(gate["ok"] for gate in gates.values())
    (file,) = facts["files"]
    # llama.cpp's products round activations to 8 bits.
    assert 1e-5 < file["checks"]["kl_all_tokens"] < 0.1
    assert file["checks"]["token_ids_equal"]


def test_file_and_adapter_are_named_together(shipped: Any) -> None:
    tune, made, facts = shipped
    base, (file,), (adapter,) = tune.path / "base.gguf", facts["files"], facts["adapters"]
    path = made.path / adapter["path"]
    assert (file["name"], file["adapter"]) == ("base+adapter.gguf", adapter["path"])
    assert file["path"] == str(base) and file["scheme"].endswith("+ LoRA")
    assert file["bytes"] == base.stat().st_size + path.stat().st_size
    assert file["sha256"] == adapter["base"] == hash_file(base)
    keys = open_gguf(path).keys
    assert keys["edgetune.base.sha256"] == hash_file(base)
    assert keys["general.type"] == "adapter" and keys["adapter.type"] == "lora"
    page = (made.path / "README.md").read_text()
    assert f"llama-cli -m base.gguf --lora {adapter['path']}" in page
    assert str(tune.path) not in page  # paths would tell about the machine


def test_an_f32_file_is_measured_as_it_is(tmp_path: Path) -> None:
    tune = tuned_over(tmp_path)
    path = tmp_path / "base.gguf"
    assert write_plain(path, tmp_path / "copy.gguf") == path
    assert find_pair(ModelRef.from_json(tune.facts["model"], tmp_path)).file == path


def test_a_file_that_changed_or_is_gone_is_refused(tmp_path: Path) -> None:
    tune = tuned_over(tmp_path)
    ref = ModelRef.from_json(tune.facts["model"], tmp_path)
    path = tmp_path / "base.gguf"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(InputError, match="not the GGUF file that was tuned over"):
        find_pair(ref)
    path.unlink()
    with pytest.raises(InputError, match="is gone"):
        find_pair(ref)
    with pytest.raises(Unsupported, match="no adapter"):
        find_pair(ModelRef(ref.base, gguf=path))


def test_other_runs_are_exported_as_before(tmp_path: Path, tiny_model: Path) -> None:
    plain = Artifact(tmp_path, "adapter", "tune", "t", facts={
        "model": ModelRef(tiny_model, tmp_path / "adapter").to_json(tmp_path)})  # fmt: skip
    over = ModelRef(tiny_model, tmp_path / "adapter", gguf=tmp_path / "base.gguf")
    tuned = Artifact(tmp_path, "adapter", "tune", "t", facts={"model": over.to_json(tmp_path)})
    merged = Artifact(tmp_path, "model", "merge", "m")
    assert find_over_gguf({}) is None and find_over_gguf({"tune": plain}) is None
    assert find_over_gguf({"tune": tuned, "merge": merged}) is None  # of a student
    assert find_over_gguf({"tune": tuned}) == over


def test_adapters_are_switched_over_one_loaded_file(tmp_path: Path, tiny_model: Path) -> None:
    base = make_gguf(tiny_model, tmp_path / "base.gguf", "Q8_0")
    paths = []
    for seed in (1, 2):
        adapter = make_adapter(tiny_model, tmp_path / f"adapter-{seed}", seed=seed)
        paths.append(tmp_path / f"{seed}.gguf")
        write_gguf_adapter(tiny_model, adapter, paths[-1], f"adapter {seed}")
    ids = list(range(5, 40))
    runtime = LlamaCpp(base, 1)
    found: dict[Path | None, list[np.ndarray]] = {}
    for path in (None, *paths, None, *paths):
        runtime.use_adapter(path)
        found.setdefault(path, []).append(runtime.logits(ids))
    runtime.close()
    for path, (first, again) in found.items():
        alone = LlamaCpp(base, 1, adapter=path)
        assert np.array_equal(first, again) and np.array_equal(first, alone.logits(ids))
        alone.close()
    none, one, other = (each[0] for each in found.values())
    assert not np.array_equal(none, one) and not np.array_equal(one, other)
