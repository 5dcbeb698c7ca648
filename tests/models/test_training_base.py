"""On what an adapter was trained is read where it is said, and unknown where it is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgetune.artifact import commit_part, open_part
from edgetune.compare.model_spec import resolve_spec
from edgetune.errors import Unsupported
from edgetune.log import Log
from edgetune.models.lineage import stamp_adapter
from edgetune.models.ref import ModelRef
from edgetune.models.stacked import rebuild_trained
from edgetune.models.training_base import KEY, find_training_base
from tests.tiny_models import make_adapter


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tiny_model, tmp_path_factory.mktemp("adapter") / "a")


@pytest.fixture
def own(adapter: Path, tmp_path: Path) -> Path:
    shutil.copytree(adapter, tmp_path / "own")
    return tmp_path / "own"


def test_nothing_says_it(own: Path) -> None:
    assert find_training_base(own) is None
    assert find_training_base(own / "nowhere") is None


@pytest.mark.parametrize("said", ["nf4:bfloat16", "nf4", "original"])
def test_its_file_says_it(said: str, own: Path, tiny_model: Path) -> None:
    stamp_adapter(own, tiny_model, {KEY: said})
    found = find_training_base(own)
    assert found is not None and str(found) == said
    assert found.nf4 == said.startswith("nf4")


def test_one_over_a_gguf_file_is_never_merged(own: Path, tiny_model: Path, tmp_path: Path) -> None:
    stamp_adapter(own, tiny_model, {KEY: "gguf:0a1b"})
    found = find_training_base(own)
    assert found is not None and found.gguf == "0a1b" and str(found) == "gguf:0a1b"
    for asked in ("auto", "original", "nf4"):
        with pytest.raises(Unsupported, match="trained over the weights of a GGUF file"):
            rebuild_trained(
                ModelRef(tiny_model, own), [], asked, "float32", tmp_path / "scratch", Log()
            )
    with pytest.raises(Unsupported, match="trained over a GGUF file's weights"):
        resolve_spec(f"{tiny_model}+{own}")


@pytest.mark.parametrize("nf4", [True, False])
def test_the_artifact_around_it_says_it(nf4: bool, adapter: Path, tmp_path: Path) -> None:
    final = tmp_path / "tune"
    part = open_part(final, "0")
    shutil.copytree(adapter, part / "adapter")
    facts = {"model": ModelRef(tmp_path, part / "adapter", nf4, "bfloat16").to_json(part)}
    commit_part(final, "adapter", "tune", "0", {}, facts)
    found = find_training_base(final / "adapter")
    assert found is not None and str(found) == ("nf4:bfloat16" if nf4 else "original")


def test_the_card_of_a_quantized_training_says_it(own: Path) -> None:
    (own / "README.md").write_text(
        "---\nlibrary_name: peft\n---\n- quant_method: bitsandbytes\n- load_in_8bit: False\n"
        "- load_in_4bit: True\n- bnb_4bit_quant_type: nf4\n- bnb_4bit_compute_dtype: float16\n"
    )
    assert str(find_training_base(own)) == "nf4:float16"
    (own / "README.md").write_text("- load_in_4bit: True\n- bnb_4bit_quant_type: fp4\n")
    assert find_training_base(own) is None


def test_the_name_of_the_base_says_it(own: Path) -> None:
    path = own / "adapter_config.json"
    named = {"base_model_name_or_path": "unsloth/tinyllama-bnb-4bit"}
    path.write_text(json.dumps({**json.loads(path.read_text()), **named}))
    assert str(find_training_base(own)) == "nf4"
