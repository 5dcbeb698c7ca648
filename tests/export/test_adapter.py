"""Which adapter ships, if any: the one over the base that the merged model was made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgetune.artifact import Artifact
from edgetune.errors import InputError
from edgetune.export.adapter import find_adapter
from edgetune.models.merge import write_merged
from edgetune.models.ref import ModelRef
from tests.tiny_models import make_adapter


def tuned(base: Path, adapter: Path | None, **facts: Any) -> Artifact:
    model = ModelRef(base, adapter).to_json(base.parent)
    return Artifact(base.parent, "adapter", "tune", "t", facts={"model": model, **facts})


def test_finds_the_adapter_of_what_ships(tiny_model: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tiny_model, tmp_path / "adapter")
    write_merged(tiny_model, [adapter], tmp_path / "model", "float32")
    merged = Artifact(tmp_path, "model", "merge", "m", facts={"from": "tune"})
    tune = tuned(tiny_model, adapter)
    assert find_adapter({"tune": tune, "merge": merged}).adapter == adapter
    student = Artifact(tmp_path, "model", "merge", "m", facts={"from": "distill"})
    chained = tuned(tiny_model, adapter, earlier=["a"])
    another = tuned(tiny_model, make_adapter(tiny_model, tmp_path / "another", seed=5))
    for inputs, fault in (
        ({"tune": tune, "merge": student}, "the student is shipped"),
        ({"merge": merged}, "no adapter is known"),
        ({"tune": tuned(tiny_model, None), "merge": merged}, "all weights were trained"),
        ({"tune": chained, "merge": merged}, "there are several"),
        ({"tune": another, "merge": merged}, "not made of this adapter"),
    ):
        with pytest.raises(InputError, match=fault):
            find_adapter(inputs)
