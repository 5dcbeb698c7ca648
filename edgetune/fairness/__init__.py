"""Counterfactual rows: the same question of another person, and whether the answer changes."""
