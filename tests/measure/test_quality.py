"""Scores against the same numbers computed plainly in torch."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgetune.errors import EdgetuneError
from edgetune.measure import quality, reference
from edgetune.measure.quality import compare_runtimes, exact_answers, score_rows
from edgetune.measure.reference import ReferenceLogProbs, head_path
from edgetune.runtimes import Runtime, open_runtime
from tests.conftest import make_model
from tests.model_files import make_gguf
from tests.tiny_models import make_tiny_model


@dataclass
class Row:
    ids: list[int]
    trained: list[bool]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    generator = np.random.default_rng(1)
    made = []
    for length in (9, 14, 4, 23):
        ids = generator.integers(3, 300, length).tolist()
        made.append(Row(ids, [t >= length // 2 for t in range(length)]))
    made.append(Row([5, 6, 7], [False, False, False]))  # nothing to score
    made.append(Row([8, 9], [True, True]))  # its first token has nothing before it
    return made


@pytest.fixture(scope="module")
def teacher(tiny_model: Path) -> Iterator[Runtime]:
    runtime = open_runtime(tiny_model, threads=1)
    yield runtime
    runtime.close()


@pytest.fixture(scope="module")
def student(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """The teacher with some noise in its weights, so that it agrees in part."""
    folder = Path(shutil.copytree(tiny_model, tmp_path_factory.mktemp("student") / "model"))
    weights = load_file(folder / "model.safetensors")
    torch.manual_seed(0)
    noisy = {name: weight + 0.03 * torch.randn_like(weight) for name, weight in weights.items()}
    save_file(noisy, folder / "model.safetensors", {"format": "pt"})
    runtime = open_runtime(folder, threads=1)
    yield runtime
    runtime.close()


def log_probs(runtime: Runtime, rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log probabilities at every scored position [N, V], and the tokens that came [N]."""
    found, tokens = [], []
    for row in rows:
        scores = torch.log_softmax(torch.tensor(runtime.logits(row.ids)).double(), -1)
        for t in range(1, len(row.ids)):
            if row.trained[t]:
                found.append(scores[t - 1])
                tokens.append(row.ids[t])
    return torch.stack(found), torch.tensor(tokens)


@pytest.mark.parametrize("chunk", [1, 2000, 2**21])
def test_scores(
    teacher: Runtime,
    student: Runtime,
    rows: list[Row],
    tmp_path: Path,
    chunk: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quality, "CHUNK_SCORES", chunk)
    kept = tmp_path / "teacher.npy"
    score_rows(teacher, rows, keep=kept)
    scores = score_rows(student, rows, {"teacher": ReferenceLogProbs(kept)})

    wanted, tokens = log_probs(teacher, rows)
    model, _ = log_probs(student, rows)
    nll = -model.gather(1, tokens[:, None]).mean()
    kl = (wanted.exp() * (wanted - model)).sum(1)
    assert scores.positions == len(tokens)
    assert scores.perplexity().value == pytest.approx(math.exp(nll), rel=1e-6)
    assert scores.perplexity().n == 5  # rows
    bits = scores.bits_per_byte([10, 20, 5, 30, 2])
    assert bits is not None and bits.n == 5
    assert bits.value == pytest.approx(float(nll) * len(tokens) / math.log(2) / 67, rel=1e-6)
    assert bits.ci95 is not None and bits.ci95[0] < bits.value < bits.ci95[1]
    assert scores.bits_per_byte([0] * 5) is None  # answers that are empty
    assert scores.mean_kl("teacher").value == pytest.approx(float(kl.mean()), rel=1e-5)
    p99 = float(torch.quantile(kl, 0.99))
    assert scores.kl_p99("teacher").value == pytest.approx(p99, rel=1e-5)
    top1 = float((wanted.argmax(1) == model.argmax(1)).double().mean())
    assert scores.top1_agreement("teacher").value == pytest.approx(top1)
    assert 0 < top1 < 1 and float(kl.mean()) > 0.01  # else this test says nothing
    low, high = scores.perplexity().ci95 or (0, 0)
    assert low < scores.perplexity().value < high

    compared = compare_runtimes(teacher, student, rows)
    assert compared["positions"] == len(tokens)
    assert compared["kl_answer_tokens"] == pytest.approx(float(kl.mean()), rel=1e-6)
    assert compared["top1_answer_tokens"] == pytest.approx(top1)


def test_a_model_does_not_differ_from_itself(
    teacher: Runtime, rows: list[Row], tmp_path: Path
) -> None:
    score_rows(teacher, rows, keep=tmp_path / "own.npy")
    scores = score_rows(teacher, rows, {"own": ReferenceLogProbs(tmp_path / "own.npy")})
    assert 0 <= scores.mean_kl("own").value < 1e-12
    assert scores.top1_agreement("own").value == 1


@pytest.mark.parametrize("family", ["llama", "granite", "gemma2"])
def test_hidden_states_give_the_log_probabilities_they_are_kept_for(
    family: str, tmp_path: Path, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large vocabulary; heads that scale and cap their logits among them."""
    runtime = open_runtime(make_tiny_model(family, tmp_path / "m", real_tokenizer=False), threads=1)
    score_rows(runtime, rows, keep=tmp_path / "dense.npy")
    monkeypatch.setattr(reference, "DENSE_BYTES", 0)
    monkeypatch.setattr(reference, "_AHEAD", 5)
    monkeypatch.setattr(reference, "_HEAD_ROWS", 37)
    score_rows(runtime, rows, keep=tmp_path / "hidden.npy")
    dense, made = (ReferenceLogProbs(tmp_path / f"{name}.npy") for name in ("dense", "hidden"))
    assert head_path(made.path).is_file() and not head_path(dense.path).is_file()
    assert made.shape == dense.shape
    for first in range(0, dense.shape[0], 3):
        last = min(first + 3, dense.shape[0])
        np.testing.assert_allclose(made.read(first, last), dense.read(first, last), atol=2e-5)
    scores = score_rows(runtime, rows, {"own": made})
    assert 0 <= scores.mean_kl("own").value < 1e-9
    assert np.load(made.path).shape[1] == 64, "a position takes the width of the model"


def test_a_lossless_file_is_the_model(teacher: Runtime, rows: list[Row], tiny_model: Path) -> None:
    llama = open_runtime(make_gguf(tiny_model), threads=1)
    compared = compare_runtimes(teacher, llama, rows)
    assert compared["kl_answer_tokens"] < 1e-9
    assert compared["top1_answer_tokens"] == 1
    llama.close()


def test_a_reference_of_other_rows_is_refused(
    teacher: Runtime, rows: list[Row], tmp_path: Path
) -> None:
    score_rows(teacher, rows, keep=tmp_path / "all.npy")
    with pytest.raises(EdgetuneError, match="positions and vocabulary"):
        score_rows(teacher, rows[:2], {"all": ReferenceLogProbs(tmp_path / "all.npy")})


def test_logits_that_are_not_finite_are_named(rows: list[Row], tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    runtime = open_runtime(folder, threads=1)
    with pytest.raises(EdgetuneError, match="not finite"):
        score_rows(runtime, rows)


def test_reference_is_never_half_written(teacher: Runtime, rows: list[Row], tmp_path: Path) -> None:
    bad = [*rows, Row([100_000, 1], [False, True])]  # fails after the others were written
    with pytest.raises(Exception):  # noqa: B017 - torch's own IndexError
        score_rows(teacher, bad, keep=tmp_path / "kept.npy")
    assert not (tmp_path / "kept.npy").exists()


def test_exact_match_ignores_outer_space_only() -> None:
    answers = exact_answers(["a b", " a b\n", "a  b", ""], ["a b", "a b", "a b", "a b"])
    assert answers == [True, True, False, False]
