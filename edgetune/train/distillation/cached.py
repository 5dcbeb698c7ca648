"""Cached distillation: cross-entropy mixed with forward KL to distributions that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgetune.data.encoded import Encoded
from edgetune.distill.cache import Cache, Origin, Settings, cache_key, fill_cache, hash_rows
from edgetune.distill.losses import CachedKD
from edgetune.distill.teacher import identify
from edgetune.facts import TargetFacts
from edgetune.train.distillation.targets import Distillation, LossTargets


def make_targets(distillation: Distillation) -> LossTargets:
    """Return all rows with the teacher's distribution at each of their trained tokens."""
    section = distillation.section
    written, count = distillation.encode_answers(distillation.prompts)
    rows = [*distillation.encoded, *written]
    sparse = distillation.choose_loss("sparse_loss")
    distillation.log.say(f"losses in {sparse.impl} ({sparse.why})")
    distillation.teacher.scores.vocabulary = distillation.vocabulary
    cache = _find_cache(distillation, rows)
    facts = TargetFacts(
        answers=count,
        kernels=sparse.impl,
        cache_bytes=cache.bytes,
        cache_bytes_per_position=cache.bytes / max(1, cache.positions),
        positions=cache.positions,
        targets=section.targets,
    )
    loss = CachedKD(cache, sparse, section.kl_weight, section.kl_warmup)
    return LossTargets(rows, loss, distillation.pad_id, facts, cache)


def _find_cache(distillation: Distillation, rows: Sequence[Encoded]) -> Cache:
    """Return the teacher's cache of these rows: the one that is there, or a new one."""
    section, seed = distillation.section, distillation.sections.seed
    teacher, encoder = distillation.teacher, distillation.encoder
    count = section.top_k if section.targets == "top_k" else section.samples
    settings = Settings(section.targets, count, section.temperature, seed)
    identity = identify(distillation.teacher_ref.target, teacher.dtype)
    origin = Origin(identity, encoder.tokenizer_hash, encoder.template_hash)
    if section.cache is not None:
        folder = Path(section.cache)
    else:
        key = cache_key(origin, hash_rows(rows), settings, teacher.scores.vocabulary)
        folder = distillation.out.parent / "teacher-cache" / key
    return fill_cache(teacher.scores, rows, settings, origin, folder, distillation.log)
