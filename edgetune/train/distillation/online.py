"""Online distillation: a divergence to the distributions of a teacher that stays in memory."""

from __future__ import annotations

from edgetune.distill.losses import Divergence, KDWeight, OnlineKD
from edgetune.facts import TargetFacts
from edgetune.train.distillation.targets import Distillation, LossTargets


def make_targets(distillation: Distillation) -> LossTargets:
    """Return all rows, and the loss that asks the teacher about each batch."""
    section = distillation.section
    written, count = distillation.encode_answers(distillation.prompts)
    sparse = distillation.choose_loss("sparse_loss")
    distillation.log.say(f"losses in {sparse.impl} ({sparse.why})")
    dense = distillation.choose_loss("dense_loss")
    divergence = Divergence(dense, section.divergence, section.divergence_mix, section.temperature)
    weight = KDWeight(section.kl_weight, section.kl_warmup)
    teacher, vocabulary = distillation.teacher.model, distillation.vocabulary
    loss = OnlineKD(teacher, divergence, sparse, weight, vocabulary)
    facts = TargetFacts(count, sparse.impl)
    return LossTargets([*distillation.encoded, *written], loss, distillation.pad_id, facts)
