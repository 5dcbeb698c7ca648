"""Curves go to the trackers that a recipe names, and to no others."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from edgetune import api
from edgetune.errors import InputError

KNOBS: dict[str, Any] = {"max_steps": 3, "batch_size": 4, "method": "lora", "packing": False}


def test_tensorboard_gets_the_curve_and_the_artifact_is_the_same(
    tiny_model: Path, device_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def tune(**more: Any) -> Any:
        return api.tune(
            str(tiny_model), str(device_rows), tmp_path / "tuned", max_length=48, **KNOBS, **more
        )

    followed = tune(report_to=("tensorboard",))
    events = EventAccumulator(str(tmp_path / "tensorboard" / "tuned-sft")).Reload()
    assert "train/loss" in events.Tags()["scalars"]
    assert not [name for name in followed.files if "tensorboard" in name or "tfevents" in name]
    assert tune().key == followed.key  # done already


def test_no_tracker_without_its_name(
    tiny_model: Path, device_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    api.tune(str(tiny_model), str(device_rows), tmp_path / "tuned", max_length=48, **KNOBS)
    assert not list(tmp_path.rglob("*tfevents*"))
    assert {path.name for path in tmp_path.iterdir()} == {device_rows.name, "tuned"}


def test_a_tracker_that_is_not_installed_is_refused(
    tiny_model: Path, device_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "wandb" else found(name)
    )
    with pytest.raises(InputError, match="pip install wandb"):
        api.tune(
            str(tiny_model), str(device_rows), tmp_path / "tuned", report_to=("wandb",), **KNOBS
        )
