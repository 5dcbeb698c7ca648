"""Distillation: the teacher's distribution, sampled and cached; the student's loss against it."""
