"""distill: teacher → stored distributions → student. Usually the teacher is not in memory then."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgetune.artifact import Artifact
from edgetune.data.contract import encoder_of, freeze_clock, write_contract
from edgetune.data.dataset.open import open_splits
from edgetune.data.encode import Encoder
from edgetune.data.encode_rows import Prepared
from edgetune.data.encoded import Encoded
from edgetune.distill.losses import CrossEntropy
from edgetune.distill.prune_depth import first_vocabulary_difference
from edgetune.distill.selection import choose_student
from edgetune.distill.student import initialize_student
from edgetune.distill.teacher import check_ids, find_teacher, open_teacher
from edgetune.facts import DistillFacts, TargetFacts, TrainedFacts
from edgetune.log import Log
from edgetune.models.adapters import add_adapter, restore_adapter, save_adapter
from edgetune.models.compute_dtype import keep_dtype
from edgetune.models.generation import restore_generation_config
from edgetune.models.hardware import choose_device
from edgetune.models.lineage import stamp_adapter
from edgetune.models.load import load_base
from edgetune.models.ref import ModelRef
from edgetune.models.tokenizer_files import load_tokenizer, save_tokenizer
from edgetune.models.training_base import KEY as TRAINED_OVER
from edgetune.models.training_base import TrainingBase
from edgetune.ops import choose
from edgetune.recipe import DistillSection, Sections
from edgetune.train.arguments import count_steps
from edgetune.train.distillation import DISTILL_METHODS, check_method
from edgetune.train.distillation.targets import (
    Distillation,
    LossTargets,
    StudentTargets,
    load_prompts,
)
from edgetune.train.inputs import TrainingRun
from edgetune.train.loop import Outcome


def run(sections: Sections, inputs: dict[str, Artifact], out: Path, log: Log) -> DistillFacts:
    """Distil the teacher into a smaller student, and train the same student without it.

    Writes:
        ``start/`` (the student before training), ``student/`` and ``baseline/`` (weights, or an
        adapter over ``start/``), ``contract/``, ``metrics.jsonl``; beside the artifact, or where
        ``distill.cache`` says, the teacher's cache.
    """
    section, data = sections.distill, sections.data
    check_method(section)

    # 1. The teacher, and the rows as it saw them.
    known = find_teacher(section, inputs.get("tune"))
    device = choose_device(sections.model.device)
    computed = keep_dtype(sections.model.compute_dtype, device, out)
    dtype = computed.name
    log.say(f"the teacher computes in {dtype} on {device} ({computed.reason})")
    encoder = encoder_of(known.contract, data, freeze_clock(out))
    rows = open_splits(sections, inputs, out, log.muted())
    prompts = load_prompts(sections, log)
    seen, asked_numbers, steps = _seen_rows(section, len(rows.train), len(prompts))
    labelled, asked = rows.train.select(seen), [prompts[n] for n in asked_numbers.tolist()]
    train = rows.encode("train", encoder, log, data.on_bad_row, labelled).encoded
    teacher = open_teacher(known.target, dtype, device)
    check_ids(teacher, encoder, labelled, known.target)

    # 2. The student's initial weights: another model, or the base pruned.
    start, student = initialize_student(sections, teacher, known, train, out, log)
    own = _find_student_encoder(sections, encoder, start, log)
    method = section.method if own is encoder else "sequence"

    # 3. The method's targets; then the teacher is closed, unless the method keeps it.
    row = DISTILL_METHODS[method]
    targets = row.make_targets(
        Distillation(
            sections, known, teacher, encoder, own, labelled, train, asked, start, out, log
        )
    )
    if own is not encoder:
        train = rows.encode("train", own, log, data.on_bad_row, labelled).encoded
    if not row.keeps_teacher:
        teacher.close()
        gc.collect()
    judged = rows.encode("validation", own, log, data.on_bad_row)

    # 4. The student, and the same student without the teacher: the same steps, its own answers.
    (out / "metrics.jsonl").unlink(missing_ok=True)
    training = _Training(
        section.model_copy(update={"max_steps": steps}), start, own, judged, sections.seed,
        device, dtype, out, log,
    )  # fmt: skip
    trained = _train_both(training, targets, train)

    # 5. What ships: the student, unless the one without the teacher is better.
    trained = _choose_shipped(training, trained)

    # 6. The contract goes with the student.
    write_contract(own, rows.quotable, out / "contract")
    parts = {**vars(student), **vars(trained), **vars(targets.facts)}
    return DistillFacts(**parts, method=method, compute_dtype=dtype)


@dataclass(frozen=True)
class _Training:
    """What the student and the baseline have in common in their training."""

    section: DistillSection
    start: Path
    encoder: Encoder
    validation: Prepared
    seed: int
    device: str
    dtype: str
    out: Path
    log: Log


def _train_both(
    training: _Training, targets: StudentTargets, train: Sequence[Encoded]
) -> TrainedFacts:
    """Train the student and, where the recipe asks for it, the baseline."""
    both = {"student": targets}
    if training.section.baseline:
        loss = CrossEntropy(choose("sparse_loss", training.section.kernels, training.device))
        pad_id = training.encoder.tokenizer.pad_token_id
        both["baseline"] = LossTargets(train, loss, pad_id, TargetFacts())
    done = {role: _train(training, role, learned) for role, learned in both.items()}
    model, outcome = done["student"]
    baseline, other = done.get("baseline", (None, None))
    return TrainedFacts(
        student_validation_loss=outcome.validation_loss,
        steps=outcome.steps,
        baseline_validation_loss=other.validation_loss if other else None,
        baseline=baseline,
        distilled=model,
    )


def _train(
    training: _Training, role: str, targets: StudentTargets
) -> tuple[dict[str, Any], Outcome]:
    """Train one model from the student's initial weights and save it under ``out / role``.

    Args:
        training: settings that the student and the baseline share.
        role: ``student`` or ``baseline``.
        targets: of the method.

    Returns:
        Where the model is, and how the training went.
    """
    out = training.out
    model = _load_trainable(training)
    run = TrainingRun(role, training.seed, out, training.log)
    outcome = targets.train(model, training.validation.encoded, training.section, run)
    return _save(training, model, outcome.best, out / role).to_json(out), outcome


def _choose_shipped(training: _Training, trained: TrainedFacts) -> TrainedFacts:
    """Return the facts with what ships, and the figures that decided where both were compared."""
    section = training.section
    refs = {"student": trained.distilled, "baseline": trained.baseline}
    shipped, figures = "student", None
    if section.ship != "best":
        shipped = section.ship
    elif section.baseline:
        both = {role: ModelRef.from_json(ref, training.out) for role, ref in refs.items() if ref}
        shipped, figures = choose_student(
            both, training.encoder, training.validation, training.dtype, training.device,
            training.log,
        )  # fmt: skip
    student = refs[shipped]
    assert student is not None  # the recipe refuses ship: baseline without one
    return replace(trained, shipped=shipped, ship_figures=figures, student=student)


def _seen_rows(
    section: DistillSection, labelled: int, asked: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the numbers of the rows that a training of less than one pass sees, and its steps.

    Only they need a teacher. They are taken evenly from the whole files: files are often sorted.

    Args:
        section: how long is trained.
        labelled: rows with answers; at least one is taken.
        asked: prompts that the teacher answers.
    """
    total = labelled + asked
    steps = count_steps(section, total)
    seen = min(total, steps * section.batch_size * section.gradient_accumulation)
    chosen = np.arange(seen) * total // seen
    some = chosen[chosen < labelled]
    return (
        some if len(some) else np.zeros(1, np.int64),
        chosen[chosen >= labelled] - labelled,
        steps,
    )


def _find_student_encoder(sections: Sections, encoder: Encoder, start: Path, log: Log) -> Encoder:
    """Return the teacher's encoder, or the student's own where its tokens differ."""
    if sections.distill.student.path is None:
        return encoder
    difference = first_vocabulary_difference(encoder.tokenizer, load_tokenizer(start))
    if difference is None:
        return encoder
    log.say(
        f"the student's tokenizer is another ({difference}): it learns from what the teacher "
        "writes (method: sequence), because distributions over other tokens say nothing to it"
    )
    return encoder_of(start, sections.data, encoder.clock)


def _load_trainable(training: _Training) -> Any:
    """Return the student's initial weights, ready for training: whole, or with new adapters."""
    section, device = training.section, training.device
    if section.train == "full":
        return load_base(training.start, False, "float32", device)
    model = load_base(training.start, section.train == "qlora", training.dtype, device)
    return add_adapter(model, section, training.seed)


def _save(training: _Training, model: Any, best: Path | None, folder: Path) -> ModelRef:
    """Write the best weights (the last, where none were best) and return where they are."""
    start, section, dtype = training.start, training.section, training.dtype
    if section.train != "full":
        if best:
            restore_adapter(model, best)
        save_adapter(model, folder)
        over = TrainingBase(section.train == "qlora", dtype, "distill")
        stamp_adapter(folder, start, {TRAINED_OVER: str(over)})
        return ModelRef(start, folder, section.train == "qlora", dtype)
    if best:
        model = type(model).from_pretrained(best)
    model.save_pretrained(str(folder))
    restore_generation_config(start, folder)
    save_tokenizer(load_tokenizer(start), folder)
    return ModelRef(folder)
