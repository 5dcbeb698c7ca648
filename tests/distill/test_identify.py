"""A teacher is another one when its configuration computes otherwise, not by its weights alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from edgetune.distill.teacher import identify
from edgetune.models.ref import ModelRef
from tests.tiny_models import make_adapter


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_configurations_are_part_of_a_teacher(tiny_model: Path, tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    shutil.copytree(tiny_model, base)
    make_adapter(base, adapter)
    teacher = ModelRef(base, adapter)
    found = [identify(teacher, "float32")]
    change(adapter / "adapter_config.json", lora_alpha=99)
    found.append(identify(teacher, "float32"))
    change(base / "config.json", rms_norm_eps=0.1)
    found.append(identify(teacher, "float32"))
    found.append(identify(ModelRef(base, adapter, True, "bfloat16"), "float32"))
    found.append(identify(ModelRef(base, adapter, True, "float32"), "float32"))
    assert len(set(found)) == 5
