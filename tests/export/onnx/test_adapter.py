"""ONNX Runtime with base graph + adapter file says what torch says with base + adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgetune.errors import InputError, Unsupported
from edgetune.export.onnx.adapter import FILE, write_onnx_adapter
from edgetune.models.lineage import stamp_adapter
from edgetune.models.ref import ModelRef
from edgetune.runtimes import find_opener
from tests.conftest import make_model
from tests.export.gguf.test_adapter import IDS, kl, log_probs
from tests.tiny_models import make_adapter, make_tiny_model


@pytest.mark.parametrize(
    ("family", "config"),
    [("llama", {}), ("qwen2", {}), ("phi3", {}), ("llama", {"use_rslora": True})],
)
def test_is_the_adapter(family: str, config: dict[str, Any], tmp_path: Path) -> None:
    base = make_tiny_model(family, tmp_path / "base", real_tokenizer=False)
    adapter = make_adapter(base, tmp_path / "adapter", **config)
    folder = tmp_path / "onnx"
    tuned = write_onnx_adapter(base, adapter, folder, tmp_path / "scratch")
    wanted, plain = log_probs(ModelRef(base, adapter)), log_probs(base)
    assert kl(wanted, log_probs(folder, adapter=folder / FILE)) <= 1e-5
    assert kl(plain, log_probs(folder)) <= 1e-5, "without the adapter the graph is the base"
    assert kl(wanted, plain) > 1e-2, "the adapter did nothing"

    opener: Any = find_opener(folder)
    runtime = opener(1, "cpu", adapter=folder / FILE)
    answer = runtime.generate([IDS], 6, [])[0]  # the adapter is there at every step
    again = np.concatenate([IDS, answer])
    assert runtime.logits(again.tolist())[len(IDS) - 1 : -1].argmax(-1).tolist() == answer
    runtime.close()
    graph = onnx.load(folder / "onnx" / "model.onnx", load_external_data=False).graph
    found = len([each for each in graph.input if "lora" in each.name])
    assert found == 2 * tuned or family == "phi3"  # whose fused layers the builder takes apart


@pytest.mark.parametrize(
    "settings",
    [
        {"init": "pissa"},
        {"rank_pattern": {"q_proj": 2, "layers.1.*": 6}},
    ],
    ids=["pissa", "patterns"],
)
def test_settings_of_the_recipe(settings: dict[str, Any], tmp_path: Path) -> None:
    base = make_tiny_model("llama", tmp_path / "base", real_tokenizer=False)
    adapter = make_adapter(base, tmp_path / "adapter", settings=settings)
    folder = tmp_path / "onnx"
    write_onnx_adapter(base, adapter, folder, tmp_path / "scratch")
    wanted, plain = log_probs(ModelRef(base, adapter)), log_probs(base)
    assert kl(wanted, log_probs(folder, adapter=folder / FILE)) <= 1e-5 < kl(wanted, plain)


@pytest.mark.parametrize("end", ["lm_head", "embed_tokens"])
def test_layers_that_the_builder_leaves_out_are_refused(end: str, tmp_path: Path) -> None:
    base = make_tiny_model("llama", tmp_path / "base", real_tokenizer=False)
    adapter = make_adapter(base, tmp_path / "a", settings={"target_modules": ["v_proj", end]})
    with pytest.raises(Unsupported, match=rf"no graph with an adapter on '(model\.)?{end}'"):
        write_onnx_adapter(base, adapter, tmp_path / "onnx", tmp_path / "scratch")


def test_refuses_by_name(tiny_model: Path, tmp_path: Path) -> None:
    dora = make_adapter(tiny_model, tmp_path / "dora", use_dora=True)
    with pytest.raises(Unsupported, match="DoRA"):
        write_onnx_adapter(tiny_model, dora, tmp_path / "onnx", tmp_path / "scratch")
    other = make_model(tmp_path / "other", seed=3)
    foreign = make_adapter(other, tmp_path / "foreign")
    stamp_adapter(foreign, other)
    with pytest.raises(InputError, match="trained on another base"):
        write_onnx_adapter(tiny_model, foreign, tmp_path / "onnx", tmp_path / "scratch")
    narrow = make_model(tmp_path / "narrow", hidden=32)
    with pytest.raises(Unsupported, match="head size 8"):
        write_onnx_adapter(
            narrow, make_adapter(narrow, tmp_path / "a"), tmp_path / "onnx", tmp_path / "scratch"
        )
    assert not (tmp_path / "onnx").exists()


def test_a_broken_file_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "onnx"
    adapter = make_adapter(tiny_model, tmp_path / "adapter")
    write_onnx_adapter(tiny_model, adapter, folder, tmp_path / "scratch")
    (folder / FILE).write_bytes(b"no adapter")
    opener: Any = find_opener(folder)
    with pytest.raises(InputError, match="cannot load this adapter"):
        opener(1, "cpu", adapter=folder / FILE)
