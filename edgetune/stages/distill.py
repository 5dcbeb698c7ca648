"""distill: teacher → cache → student. The teacher is absent while the student trains."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from edgetune.artifact import Artifact
from edgetune.data.contract import encoder_of, write_contract
from edgetune.data.encode import Encoded, Encoder
from edgetune.data.load import load_splits
from edgetune.data.prepare import encode_rows
from edgetune.distill.cache import Cache, fill_cache
from edgetune.log import Log, bytes_text
from edgetune.models.adapters import add_adapter, fold_float32, restore_adapter, save_adapter
from edgetune.models.hardware import choose_device, choose_dtype, require_room
from edgetune.models.lineage import stamp_adapter
from edgetune.models.load import load_base, load_model, load_tokenizer
from edgetune.models.ref import ModelRef
from edgetune.models.source import resolve_model
from edgetune.models.student import (
    check_same_tokenizer,
    choose_layers,
    cut_depth,
)
from edgetune.recipe import DistillSection, Sections
from edgetune.train.arguments import count_steps
from edgetune.train.distillation import train_student

INFLUENCE_ROWS = 16


def run(sections: Sections, inputs: dict[str, Artifact], out: Path, log: Log) -> dict[str, Any]:
    """Distil the tuned teacher into a smaller student, and train the same student without it.

    Writes:
        ``start/`` (the student before training), ``student/`` and ``baseline/`` (weights, or an
        adapter over ``start/``), ``contract/``, ``metrics.jsonl``.
    """
    section, data, parent = sections.distill, sections.data, inputs["tune"]

    # 1. The teacher, as it was trained, and the rows as it saw them.
    teacher_ref = ModelRef.from_json(parent.facts["model"], parent.path)
    device = choose_device(sections.model.device)
    dtype = choose_dtype(sections.model.compute_dtype, device)
    encoder = encoder_of(parent.contract_folder, data)
    rows = load_splits(data, sections.seed, log.muted())
    train = encode_rows(encoder, rows.train, log, "train", data.on_bad_row).encoded
    validation = encode_rows(encoder, rows.validation, log, "validation", data.on_bad_row).encoded
    section, train = _seen_rows(section, train)
    require_room(out, sum(len(row.ids) for row in train) * 5 * section.samples, "the cache")
    teacher = fold_float32(load_model(teacher_ref, dtype, device))

    # 2. Where the student starts: another model, or the base without its least influential layers.
    start, facts = _start(sections, teacher, teacher_ref, train, encoder, out, log)

    # 3. The teacher's distribution, sampled once; then the teacher leaves.
    cache = fill_cache(
        teacher, train, section.samples, sections.seed, out / "scratch" / "cache", log
    )
    del teacher
    gc.collect()

    # 4. The student, and the same student without the teacher.
    (out / "metrics.jsonl").unlink(missing_ok=True)
    pad = encoder.tokenizer.pad_token_id
    refs: dict[str, Any] = {"baseline": None}
    roles: list[tuple[str, Cache | None]] = [("student", cache)]
    if section.baseline:
        roles.append(("baseline", None))
    for role, targets in roles:
        model = _trainable(start, section, dtype, device, sections.seed)
        outcome = train_student(
            model, targets, train, validation, pad, section, sections.seed, out, role, log
        )
        refs[role] = _save(model, outcome.best, start, section, out / role).to_json(out)
        facts[f"{role}_validation_loss"] = outcome.validation_loss
        facts["steps"] = outcome.steps

    # 5. The contract goes with the student.
    write_contract(encoder, rows.test, out / "contract")
    return {
        **facts,
        **refs,
        "method": section.method,
        "compute_dtype": dtype,
        "cache_bytes": cache.bytes,
        "cache_bytes_per_position": cache.bytes / max(1, sum(sum(row.trained) for row in train)),
        "positions": sum(sum(row.trained) for row in train),
        "samples": section.samples,
    }


def _seen_rows(
    section: DistillSection, train: list[Encoded]
) -> tuple[DistillSection, list[Encoded]]:
    """Return the rows that a training of less than one pass sees: only they need a teacher."""
    steps = count_steps(section, len(train))
    seen = steps * section.batch_size * section.gradient_accumulation
    if seen >= len(train):
        return section, train
    # Evenly from the whole file: files are often sorted.
    chosen = [train[number * len(train) // seen] for number in range(seen)]
    return section.model_copy(update={"max_steps": steps}), chosen


def _start(
    sections: Sections,
    teacher: Any,
    teacher_ref: ModelRef,
    train: list[Encoded],
    encoder: Encoder,
    out: Path,
    log: Log,
) -> tuple[Path, dict[str, Any]]:
    """Return the folder the student starts from and what is to be said about it."""
    student = sections.distill.student
    if student.path is not None:
        folder = resolve_model(student.path)
        check_same_tokenizer(
            encoder.tokenizer, load_tokenizer(folder), f"distill.student.path: {student.path}"
        )
        return folder, {"student_from": student.path}
    depth = teacher.config.get_text_config().num_hidden_layers
    keep = student.layers or max(1, depth // 2)
    step = max(1, len(train) // INFLUENCE_ROWS)
    layers, removed = choose_layers(teacher, train[::step][:INFLUENCE_ROWS], keep)
    folder = out / "start"
    if not (folder / "config.json").exists():
        cut_depth(teacher_ref.base, layers, folder)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    log.say(
        f"student: layers {', '.join(map(str, layers))} of {depth}, {bytes_text(size)}; the others "
        f"were missed least (KL {removed[-1][1]:.2f} before training)"
    )
    return folder, {
        "student_from": "depth cut",
        "layers": layers,
        "of_layers": depth,
        "removed": [{"layer": layer, "kl_divergence": harm} for layer, harm in removed],
    }


def _trainable(start: Path, section: DistillSection, dtype: str, device: str, seed: int) -> Any:
    if section.method == "full":
        return load_base(start, False, "float32", device)
    model = load_base(start, section.method == "qlora", dtype, device)
    return add_adapter(model, section, seed)


def _save(
    model: Any, best: Path | None, start: Path, section: DistillSection, folder: Path
) -> ModelRef:
    if section.method != "full":
        if best:
            restore_adapter(model, best)
        save_adapter(model, folder)
        stamp_adapter(folder, start)
        return ModelRef(start, folder, nf4=section.method == "qlora")
    if best:
        model = type(model).from_pretrained(best)
    model.save_pretrained(str(folder))
    load_tokenizer(start).save_pretrained(str(folder))
    return ModelRef(folder)
