"""Sequence-level distillation: cross-entropy to the answers that the teacher writes."""

from __future__ import annotations

from edgetune.data.encode_rows import encode_rows
from edgetune.distill.losses import CrossEntropy
from edgetune.distill.teacher_answers import as_rows
from edgetune.facts import TargetFacts
from edgetune.train.distillation.targets import Distillation, LossTargets


def make_targets(distillation: Distillation) -> LossTargets:
    """Return the teacher's answers to all prompts, in the student's tokens."""
    if distillation.student_encoder is not distillation.encoder:
        return _encode_again(distillation)
    prompts = [*distillation.answered, *distillation.prompts]
    rows, count = distillation.encode_answers(prompts)
    sparse = distillation.choose_loss("sparse_loss")
    distillation.log.say(f"losses in {sparse.impl} ({sparse.why})")
    facts = TargetFacts(count, sparse.impl)
    return LossTargets(rows, CrossEntropy(sparse), distillation.pad_id, facts)


def _encode_again(distillation: Distillation) -> LossTargets:
    """Return the teacher's answers, encoded by the student's own tokenizer."""
    prompts = [*distillation.answered, *distillation.prompts]
    answers = distillation.write_answers(prompts)
    rows = as_rows(distillation.encoder, prompts, answers)
    own, log = distillation.student_encoder, distillation.log
    encoded = encode_rows(own, rows, log, "answers", "skip").encoded
    loss = CrossEntropy(distillation.choose_loss("sparse_loss"))
    return LossTargets(encoded, loss, distillation.pad_id, TargetFacts(len(encoded)))
