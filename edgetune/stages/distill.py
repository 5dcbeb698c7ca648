"""distill: teacher → what it leaves behind → student. Usually the teacher is absent by then."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetune.artifact import Artifact
from edgetune.data.contract import encoder_of, freeze_clock, write_contract
from edgetune.data.encode import Encoded, Encoder
from edgetune.data.load import load_splits
from edgetune.data.prepare import Prepared, encode_rows
from edgetune.data.rows import Row
from edgetune.distill.losses import CrossEntropy
from edgetune.distill.prune_depth import first_vocabulary_difference
from edgetune.distill.selection import choose_student
from edgetune.distill.student import initialize_student
from edgetune.distill.targets import (
    TrainingTargets,
    load_prompts,
    make_answer_targets,
    make_targets,
)
from edgetune.distill.teacher import OpenTeacher, check_ids, find_teacher, open_teacher
from edgetune.log import Log
from edgetune.models.adapters import add_adapter, restore_adapter, save_adapter
from edgetune.models.generation import restore_generation_config
from edgetune.models.hardware import choose_device, choose_dtype
from edgetune.models.lineage import stamp_adapter
from edgetune.models.load import load_base, load_tokenizer
from edgetune.models.ref import ModelRef
from edgetune.models.tokenizer_files import save_tokenizer
from edgetune.models.training_base import KEY as TRAINED_OVER
from edgetune.models.training_base import TrainingBase
from edgetune.ops import choose
from edgetune.recipe import DistillSection, Sections
from edgetune.train.arguments import count_steps
from edgetune.train.distillation import train_student
from edgetune.train.loop import Outcome
from edgetune.train.on_policy import check_divergence, train_on_policy


def run(sections: Sections, inputs: dict[str, Artifact], out: Path, log: Log) -> dict[str, Any]:
    """Distil the teacher into a smaller student, and train the same student without it.

    Writes:
        ``start/`` (the student before training), ``student/`` and ``baseline/`` (weights, or an
        adapter over ``start/``), ``contract/``, ``metrics.jsonl``; beside the artifact, or where
        ``distill.cache`` says, the teacher's cache.
    """
    section, data = sections.distill, sections.data
    if section.method == "on_policy":
        check_divergence(section)

    # 1. The teacher, and the rows as it saw them.
    known = find_teacher(section, inputs.get("tune"))
    device = choose_device(sections.model.device)
    dtype = choose_dtype(sections.model.compute_dtype, device)
    encoder = encoder_of(known.contract, data, freeze_clock(out))
    rows = load_splits(data, sections.seed, log.muted())
    labelled, asked, steps = _seen_rows(section, rows.train, load_prompts(sections, log))
    train = encode_rows(encoder, labelled, log, "train", data.on_bad_row).encoded
    teacher = open_teacher(known.target, dtype, device)
    check_ids(teacher, encoder, labelled, known.target)

    # 2. The student's initial weights: another model, or the base pruned.
    start, facts = initialize_student(sections, teacher, known, train, out, log)
    own, strange = _own_encoder(sections, encoder, start, log)
    method = "sequence" if strange else section.method

    # 3. What the teacher has to say; then it leaves, unless it is wanted online.
    if strange:
        targets = make_answer_targets(section, teacher, encoder, own, [*labelled, *asked], out, log)
        train = encode_rows(own, labelled, log, "train", data.on_bad_row).encoded
    else:
        targets = make_targets(
            sections, known, teacher, encoder, (labelled, train), asked, start, out, log
        )
    if method not in ("online", "on_policy"):
        teacher.close()
        gc.collect()
    judged = encode_rows(own, rows.validation, log, "validation", data.on_bad_row)

    # 4. The student, and the same student without the teacher: the same steps, its own answers.
    (out / "metrics.jsonl").unlink(missing_ok=True)
    training = _Training(
        section.model_copy(update={"max_steps": steps}), start, own, judged, sections.seed,
        device, dtype, out, log,
    )  # fmt: skip
    on_policy = (teacher, [*labelled, *asked]) if method == "on_policy" else None
    refs, losses = _train_both(training, targets, train, on_policy)

    # 5. What ships: the student, unless the one without the teacher is better.
    refs["distilled"] = refs["student"]
    shipped, figures = _choose_shipped(training, refs)
    refs["student"], facts = refs[shipped], {**facts, **losses, **figures, "shipped": shipped}

    # 6. The contract goes with the student.
    write_contract(own, rows.test, out / "contract")
    return {
        **facts, **refs, **targets.facts, "method": method, "compute_dtype": dtype,
    }  # fmt: skip


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
    training: _Training, targets: TrainingTargets, train: list[Encoded],
    on_policy: tuple[OpenTeacher, list[Row]] | None,
) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    """Train the student and, where the recipe asks for it, the baseline.

    Returns:
        Where each is, by role, and their steps and validation losses.
    """
    objectives = {"student": targets}
    if training.section.baseline:
        plain = CrossEntropy(choose("sparse_loss", training.section.kernels, training.device))
        objectives["baseline"] = TrainingTargets(train, plain, None, {})
    refs: dict[str, Any] = {"baseline": None}
    facts: dict[str, Any] = {}
    for role, objective in objectives.items():
        refs[role], outcome = _train(training, role, objective, on_policy)
        facts[f"{role}_validation_loss"] = outcome.validation_loss
        facts["steps"] = outcome.steps
    return refs, facts


def _train(
    training: _Training, role: str, targets: TrainingTargets,
    on_policy: tuple[OpenTeacher, list[Row]] | None,
) -> tuple[dict[str, Any], Outcome]:  # fmt: skip
    """Train one model from the student's initial weights and save it under ``out / role``.

    Args:
        training: settings that the student and the baseline share.
        role: ``student`` or ``baseline``.
        targets: rows and objective.
        on_policy: the teacher and its prompts, where the student samples its own answers.

    Returns:
        Where the model is, and how the training went.
    """
    section, out, log = training.section, training.out, training.log
    model = _load_trainable(training)
    if role == "student" and on_policy is not None:
        teacher, prompts = on_policy
        outcome = train_on_policy(
            model, teacher.model, training.encoder, prompts, section, training.seed, out, log
        )
    else:
        outcome = train_student(
            model, targets.loss, targets.cache, targets.rows, training.validation.encoded,
            training.encoder.tokenizer.pad_token_id, section, training.seed, out, role, log,
        )  # fmt: skip
    return _save(training, model, outcome.best, out / role).to_json(out), outcome


def _choose_shipped(training: _Training, refs: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the role that ships, and the figures that decided where both were compared."""
    section = training.section
    if section.ship != "best":
        return section.ship, {}
    if not section.baseline:
        return "student", {}
    both = {role: ModelRef.from_json(refs[role], training.out) for role in ("student", "baseline")}
    shipped, figures = choose_student(
        both, training.encoder, training.validation, training.dtype, training.device, training.log
    )
    return shipped, {"ship_figures": figures}


def _seen_rows(
    section: DistillSection, labelled: list[Row], asked: list[Row]
) -> tuple[list[Row], list[Row], int]:
    """Return the rows that a training of less than one pass sees, and its steps.

    Only they need a teacher. They are taken evenly from the whole files: files are often sorted.
    """
    total = len(labelled) + len(asked)
    steps = count_steps(section, total)
    seen = steps * section.batch_size * section.gradient_accumulation
    if seen >= total:
        return labelled, asked, steps
    chosen = [number * total // seen for number in range(seen)]
    cut = len(labelled)
    return (
        [labelled[n] for n in chosen if n < cut] or labelled[:1],
        [asked[n - cut] for n in chosen if n >= cut],
        steps,
    )


def _own_encoder(
    sections: Sections, encoder: Encoder, start: Path, log: Log
) -> tuple[Encoder, bool]:
    """Return the student's encoder, and whether its tokens differ from the teacher's."""
    if sections.distill.student.path is None:
        return encoder, False
    difference = first_vocabulary_difference(encoder.tokenizer, load_tokenizer(start))
    if difference is None:
        return encoder, False
    log.say(
        f"the student's tokenizer is another ({difference}): it learns from what the teacher "
        "writes (method: sequence), because distributions over other tokens say nothing to it"
    )
    return encoder_of(start, sections.data, encoder.clock), True


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
