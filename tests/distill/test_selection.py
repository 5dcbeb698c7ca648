"""The better of two students ships, where it is better beyond the noise."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from edgetune.data.build_encoder import make_encoder
from edgetune.data.encode_rows import Prepared, encode_rows
from edgetune.data.rows import Message, Row
from edgetune.distill import selection
from edgetune.distill.student import _merge_teacher
from edgetune.log import Log
from edgetune.models.adapters import add_adapter, save_adapter
from edgetune.models.load import load_base, load_model
from edgetune.models.ref import ModelRef
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import DataSection, TuneSection
from edgetune.report.findings import find_headline

QUIET = Log(quiet=True)


def prepared(tiny_model: Path, texts: bool = False) -> tuple[Prepared, selection.Encoder]:
    encoder = make_encoder(load_tokenizer(tiny_model), DataSection(train="-"), None)
    rows = [
        Row((), f"a text of number {n}", str(n))
        if texts
        else Row((Message("user", f"ask {n}"), Message("assistant", f"say {n}")), None, str(n))
        for n in range(20)
    ]
    return encode_rows(encoder, rows, QUIET), encoder


@pytest.mark.parametrize(
    ("student", "baseline", "wanted"),
    [(0.2, 0.9, "baseline"), (0.9, 0.2, "student"), (0.5, 0.55, "student")],
)
def test_exact_match_beyond_its_interval(
    student: float, baseline: float, wanted: str, tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    judged, encoder = prepared(tiny_model)
    shares = iter([student, baseline])

    def exact(*_: object) -> list[float]:
        share = next(shares)
        return [float(n < share * 20) for n in range(20)]

    monkeypatch.setattr(selection, "_exact", exact)
    ref = ModelRef(tiny_model)
    both = {"student": ref, "baseline": ref}
    shipped, figures = selection.choose_student(both, encoder, judged, "float32", "cpu", Log())
    assert shipped == wanted
    assert figures["exact_match"]["difference"] == pytest.approx(student - baseline)
    assert ("ships instead" in capsys.readouterr().err) == (wanted == "baseline")


@pytest.mark.parametrize("better", ["student", "baseline"])
def test_loss_decides_where_no_answer_is_right(
    better: str, tiny_model: Path, tmp_path: Path
) -> None:
    judged, encoder = prepared(tiny_model, texts=True)
    model = load_base(tiny_model, False, "float32", "cpu")
    with torch.no_grad():  # random weights, made surer: wrong more loudly
        model.get_output_embeddings().weight.mul_(20)
    shutil.copytree(tiny_model, tmp_path / "worse")
    model.save_pretrained(tmp_path / "worse")
    worse, good = ModelRef(tmp_path / "worse"), ModelRef(tiny_model)
    both = {"student": good, "baseline": worse}
    if better == "baseline":
        both = {"student": worse, "baseline": good}
    shipped, figures = selection.choose_student(both, encoder, judged, "float32", "cpu", QUIET)
    assert shipped == better
    assert (figures["loss"]["difference"] > 0) == (better == "baseline")


def test_the_same_twice_ships_the_student(tiny_model: Path) -> None:
    judged, encoder = prepared(tiny_model)
    both = {"student": ModelRef(tiny_model), "baseline": ModelRef(tiny_model)}
    shipped, figures = selection.choose_student(both, encoder, judged, "float32", "cpu", QUIET)
    assert (shipped, figures["loss"]["difference"]) == ("student", 0.0)


def test_the_headline_says_what_ships() -> None:
    assert "without the teacher" in find_headline([], "baseline")["text"]
    assert "without the teacher" not in find_headline([], "student")["text"]


@pytest.mark.parametrize("nf4", [False, True])
def test_a_student_is_cut_from_the_tuned_teacher(
    nf4: bool, tiny_model: Path, tmp_path: Path
) -> None:
    model = add_adapter(load_base(tiny_model, nf4, "float32", "cpu"), TuneSection(rank=4), 0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    save_adapter(model, tmp_path / "adapter")
    teacher = ModelRef(tiny_model, tmp_path / "adapter", nf4, "float32")
    folder = _merge_teacher(teacher, tmp_path / "scratch" / "tuned", QUIET)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        wanted, found, base = (
            load_model(ref)(input_ids=ids).logits
            for ref in (teacher, ModelRef(folder), ModelRef(tiny_model))
        )
    assert (wanted - base).abs().max() > 0.05
    assert (wanted - found).abs().max() < (2e-2 if nf4 else 5e-3)
    assert _merge_teacher(ModelRef(tiny_model), tmp_path / "x", QUIET) == tiny_model
