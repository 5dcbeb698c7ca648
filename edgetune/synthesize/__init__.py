"""Synthetic rows: a teacher writes them, validators reject, the origin of each is kept."""
