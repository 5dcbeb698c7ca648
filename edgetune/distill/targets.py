"""Distillation targets: the rows and the objective that each method trains the student with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetune.data.encode import Encoded, Encoder
from edgetune.data.load import load_rows
from edgetune.data.prepare import encode_rows
from edgetune.data.rows import Row
from edgetune.data.sources import open_source
from edgetune.distill.cache import Cache, Origin, Settings, cache_key, fill_cache, hash_rows
from edgetune.distill.losses import CachedKD, CrossEntropy, OnlineKD, StudentLoss
from edgetune.distill.teacher import OpenTeacher, TeacherRef, identify
from edgetune.distill.teacher_answers import as_rows, with_answers, write_answers
from edgetune.log import Log
from edgetune.models.resolve import read_json
from edgetune.ops import choose
from edgetune.recipe import DistillSection, Sections


@dataclass(frozen=True)
class TrainingTargets:
    """Rows the student is trained on, and the objective of its loss."""

    rows: list[Encoded]
    loss: StudentLoss
    cache: Cache | None
    facts: dict[str, Any]


def load_prompts(sections: Sections, log: Log) -> list[Row]:
    """Return the rows whose answers the teacher writes."""
    path = sections.distill.prompts
    if path is None:
        return []
    source = open_source(path, "prompts")
    loaded = load_rows(source, sections.data, log.muted(), "prompts", answered=False)
    return [row for row in loaded.rows if row.text is None]


def make_answer_targets(
    section: DistillSection, teacher: OpenTeacher, encoder: Encoder, own: Encoder,
    rows: list[Row], out: Path, log: Log,
) -> TrainingTargets:  # fmt: skip
    """Return the teacher's answers, encoded by the student's own tokenizer."""
    answers = write_answers(
        teacher.generate, encoder, rows, section.max_new_tokens, out / "scratch" / "answers", log
    )
    said = encode_rows(own, as_rows(encoder, rows, answers), log, "answers", "skip").encoded
    loss = CrossEntropy(choose("sparse_loss", section.kernels, teacher.device))
    return TrainingTargets(said, loss, None, {"answers": len(said)})


def make_targets(
    sections: Sections, known: TeacherRef, teacher: OpenTeacher, encoder: Encoder,
    labelled: tuple[list[Row], list[Encoded]], asked: list[Row], start: Path, out: Path, log: Log,
) -> TrainingTargets:  # fmt: skip
    """Return the targets of a student of the same tokenizer: distributions, or answers alone."""
    section = sections.distill
    if section.method == "on_policy":  # the student samples its own answers
        return TrainingTargets(labelled[1], CrossEntropy(choose("sparse_loss", "torch")), None, {})
    sequence = section.method == "sequence"
    prompts = [*labelled[0], *asked] if sequence else asked
    answers = []
    if prompts:
        path = out / "scratch" / "answers"
        answers = write_answers(
            teacher.generate, encoder, prompts, section.max_new_tokens, path, log
        )
    rows = [*([] if sequence else labelled[1]), *with_answers(encoder, prompts, answers)]
    facts: dict[str, Any] = {"answers": len(answers)}
    sparse = choose("sparse_loss", section.kernels, teacher.device)
    log.say(f"losses in {sparse.impl} ({sparse.why})")
    facts["kernels"] = sparse.impl
    if sequence:
        return TrainingTargets(rows, CrossEntropy(sparse), None, facts)
    config = read_json(start / "config.json", "")
    vocabulary = min(teacher.scores.vocabulary, int(config.get("vocab_size", 1 << 62)))
    if section.method == "online":
        loss = OnlineKD(
            teacher.model, choose("dense_loss", section.kernels, teacher.device), sparse,
            divergence=section.divergence, divergence_mix=section.divergence_mix,
            temperature=section.temperature, weight=section.kl_weight, warmup=section.kl_warmup,
            vocabulary=vocabulary,
        )  # fmt: skip
        return TrainingTargets(rows, loss, None, facts)
    teacher.scores.vocabulary = vocabulary
    cache = _fill(sections, known, teacher, encoder, rows, out, log)
    facts |= {
        "cache_bytes": cache.bytes,
        "cache_bytes_per_position": cache.bytes / max(1, cache.positions),
        "positions": cache.positions,
        "targets": section.targets,
    }
    return TrainingTargets(
        rows, CachedKD(cache, sparse, section.kl_weight, section.kl_warmup), cache, facts
    )


def _fill(
    sections: Sections, known: TeacherRef, teacher: OpenTeacher, encoder: Encoder,
    rows: list[Encoded], out: Path, log: Log,
) -> Cache:  # fmt: skip
    """Return the teacher's cache, found or made."""
    section = sections.distill
    count = section.top_k if section.targets == "top_k" else section.samples
    settings = Settings(section.targets, count, section.temperature, sections.seed)
    origin = Origin(
        identify(known.target, teacher.dtype), encoder.tokenizer_hash, encoder.template_hash
    )
    if section.cache is not None:
        folder = Path(section.cache)
    else:
        key = cache_key(origin, hash_rows(rows), settings, teacher.scores.vocabulary)
        folder = out.parent / "teacher-cache" / key
    return fill_cache(teacher.scores, rows, settings, origin, folder, log)
