"""Quantization-aware training of a file's weights; the unquantized model is the teacher."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgetune.data.encoded import Encoded
from edgetune.distill.losses import Divergence, KDWeight, OnlineKD
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.ops import choose
from edgetune.quantize.held_out import compare_held_out
from edgetune.quantize.methods import Job
from edgetune.quantize.methods.fake_quant import FakeQuantized
from edgetune.quantize.methods.gptaq import quantize_gptaq
from edgetune.quantize.weights import put_weights
from edgetune.train.distillation.trainer import train_student
from edgetune.train.inputs import DistillationData, TrainingRun


def quantize_file(job: Job) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return each tensor's bytes after GPTAQ and training, and facts of the training."""
    return train_qat(job, quantize_gptaq(job)[0])


def train_qat(
    job: Job, raw: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return each tensor's bytes after training, rows in the model's own order, and what changed.

    Types without a codec (F16 for rows of odd lengths) are not trained. ``raw`` is returned where
    training did not lower the KL on held-out rows by more than chance.

    Args:
        job: the file; every position of its training rows is trained on, and checkpoints lie in
            the scratch of its folder.
        raw: tensor name to the bytes that training begins with.
    """
    candidates, types = job.candidates, job.types
    teacher, student = load_model(ModelRef(job.model)), load_model(ModelRef(job.model))
    on_grid = {name: kind for name, kind in types.items() if kind in candidates.types.codec_types}
    put_weights(
        student, candidates.as_parameters({n: raw[n] for n in raw if n not in on_grid}, types)
    )
    quantized = FakeQuantized(
        student, candidates.weights, raw, on_grid, candidates.types.codec,
        learn_scales=job.settings.scales == "learned",
    )  # fmt: skip
    learned = quantized.parameters
    for parameter in student.parameters():
        parameter.requires_grad_(id(parameter) in learned)
    vocabulary = int(teacher.get_output_embeddings().weight.shape[0])
    loss = OnlineKD(
        teacher.requires_grad_(False), Divergence(choose("dense_loss")), choose("sparse_loss"),
        KDWeight(1.0), vocabulary,
    )  # fmt: skip
    encoded = [
        Encoded(list(ids), [False] + [True] * (len(ids) - 1), False) for ids in job.texts.training
    ]
    student.train()
    run = TrainingRun(job.file, job.seed, job.out, job.log)
    outcome = train_student(
        student, loss, DistillationData(encoded), job.settings, run, around=quantized.applied
    )
    trained = {**raw, **quantized.write()}
    del student, loss
    gc.collect()
    found = compare_held_out(teacher, candidates, types, raw, trained, job.texts.held_out)
    job.log.say(f"{job.file}: trained by QAT, held-out: {found}")
    return (trained if found.kept else dict(raw)), {"steps": outcome.steps, **found.facts}
