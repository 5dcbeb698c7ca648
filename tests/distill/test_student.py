"""Students of random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgetune.distill.student import describe_student, make_random_student
from edgetune.errors import InputError
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef


def test_a_random_student_has_the_teacher_s_vocabulary(tiny_model: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_model / "config.json").read_text())
    config |= {"num_hidden_layers": 1, "vocab_size": 7}
    (tmp_path / "config.json").write_text(json.dumps(config))
    make_random_student(tmp_path / "config.json", tiny_model, tmp_path / "fresh", 3)
    model = load_model(ModelRef(tmp_path / "fresh"))
    assert len(model.get_decoder().layers) == 1
    assert model.config.vocab_size == load_model(ModelRef(tiny_model)).config.vocab_size
    assert "about" in describe_student(tmp_path / "fresh", tiny_model, "full")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(InputError, match=r"distill\.student\.config"):
        make_random_student(tmp_path / "bad.json", tiny_model, tmp_path / "no", 3)
