"""A folded adapter computes the same and is never rounded; a saved one is equal in each process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edgetune.models.adapters import add_adapter, fold_float32
from edgetune.models.load import load_base
from edgetune.recipe import TuneSection


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
