"""Train a model's weights on the grid of a file's types, its own unrounded self as the teacher."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetune.data.encode import Encoded
from edgetune.distill.losses import OnlineKD
from edgetune.log import Log
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.ops import choose
from edgetune.quantize.candidates import Candidates
from edgetune.quantize.held_out import compare_held_out
from edgetune.quantize.methods import Job
from edgetune.quantize.methods.fake_quant import FakeQuantized
from edgetune.quantize.methods.gptaq import quantize_gptaq
from edgetune.quantize.weights import put_weights
from edgetune.recipe import GridSection
from edgetune.train.distillation import train_student


def train_qat(
    model: Path, candidates: Candidates, types: Mapping[str, str], raw: Mapping[str, np.ndarray],
    rows: Sequence[Sequence[int]], judged: Sequence[Sequence[int]], section: GridSection,
    seed: int, out: Path, name: str, log: Log,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:  # fmt: skip
    """Return each tensor's bytes after training, rows in the model's own order, and what changed.

    The bytes are those it began with where training did not help on ``judged`` by more than
    chance.

    Args:
        model: the merged folder.
        candidates: its matrices, and their bytes in every type.
        types: tensor name to type; what has no grid (rows of odd lengths, in F16) is not trained.
        raw: tensor name to the bytes that training begins with.
        rows: token ids to train on, every position.
        judged: token ids to compare on; none of them in ``rows``.
        section: steps, rate and batch.
        seed: of the order of rows.
        out: the stage's folder; checkpoints lie in its scratch.
        name: of the file: names checkpoints and curve.
        log: where bars go.
    """
    teacher, student = load_model(ModelRef(model)), load_model(ModelRef(model))
    on_grid = {name: kind for name, kind in types.items() if kind in candidates.types.codec_types}
    put_weights(
        student, candidates.as_parameters({n: raw[n] for n in raw if n not in on_grid}, types)
    )
    lattice = FakeQuantized(
        student, candidates.weights, raw, on_grid, candidates.types.codec,
        learn_scales=section.scales == "learned",
    )  # fmt: skip
    learned = lattice.parameters
    for parameter in student.parameters():
        parameter.requires_grad_(id(parameter) in learned)
    vocabulary = int(teacher.get_output_embeddings().weight.shape[0])
    loss = OnlineKD(
        teacher.requires_grad_(False), choose("dense_loss"), choose("sparse_loss"),
        divergence="forward_kl", divergence_mix=0.5, temperature=1.0, weight=1.0, warmup=0.0,
        vocabulary=vocabulary,
    )  # fmt: skip
    encoded = [Encoded(list(ids), [False] + [True] * (len(ids) - 1), False) for ids in rows]
    student.train()
    outcome = train_student(
        student, loss, None, encoded, [], 0, section, seed, out, name, log, around=lattice.applied
    )
    trained = {**raw, **lattice.write()}
    del student, loss
    gc.collect()
    found = compare_held_out(teacher, candidates, types, raw, trained, judged)
    log.say(f"{name}: trained by QAT, held-out: {found}")
    return (trained if found.kept else dict(raw)), {"steps": outcome.steps, **found.facts}


def quantize_file(job: Job) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return each tensor's bytes after GPTAQ and training, and facts of the training."""
    raw, _ = quantize_gptaq(
        job.loaded, job.candidates, job.types, job.texts.calibration, job.texts.judged, job.file,
        job.log,
    )  # fmt: skip
    return train_qat(
        job.model, job.candidates, job.types, raw, job.texts.training, job.texts.judged,
        job.settings, job.seed, job.out, job.file, job.log,
    )  # fmt: skip
