"""Cleaning: what is found in rows one at a time, and duplicates and balance among all of them."""

from edgetune.data.clean.clusters import Pairs, cluster_rows
from edgetune.data.clean.groups import cap_groups
from edgetune.data.clean.pairs import find_pairs
from edgetune.data.clean.sketch import BANDS, sketch_texts
from edgetune.data.clean.steps import ROW_STEPS, Cleaned, Finding, clean_rows
from edgetune.data.clean.suspects import Suspects, find_suspects

__all__ = [
    "BANDS",
    "ROW_STEPS",
    "Cleaned",
    "Finding",
    "Pairs",
    "Suspects",
    "cap_groups",
    "clean_rows",
    "cluster_rows",
    "find_pairs",
    "find_suspects",
    "sketch_texts",
]
