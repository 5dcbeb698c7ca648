"""Rotary settings where llama.cpp's converter looks for them.

transformers 5 keeps them in ``rope_parameters``, older releases at the top of ``config.json`` and
in ``rope_scaling``. The converter knows both places for some keys and only the old one for others:
it then silently takes a default (8,192 positions for Llama 3, no factors for Phi-3).
"""

from __future__ import annotations

import math
from typing import Any

_SCALED = ("llama3", "yarn", "longrope", "su")


def unnest_rope(hparams: dict[str, Any]) -> float | None:
    """Copy rotary settings of ``rope_parameters`` to the top of a configuration, in place.

    What transformers computes with decides (``standardize_rope_params``): the positions of the
    pretraining are those at the top, else the nested ones, else ``max_position_embeddings``.

    Returns:
        The value of ``rope.scaling.attn_factor`` that the converter does not write, if there is
        one: llama.cpp multiplies by it the factor that it computes itself (YaRN, arXiv 2309.00071,
        equation 22), where transformers' ``attention_factor`` takes that one's place.
    """
    given = hparams.get("rope_parameters") or hparams.get("rope_scaling") or {}
    by_layer = [one for one in given.values() if isinstance(one, dict)]
    nested = given.get("full_attention") or (by_layer[0] if by_layer else given)
    kind = str(nested.get("rope_type") or nested.get("type") or "default").lower()
    for key in ("rope_theta", "partial_rotary_factor"):
        if nested.get(key) is not None:
            hparams.setdefault(key, nested[key])
    if kind in _SCALED:
        original = hparams.get("original_max_position_embeddings")
        original = original or nested.get("original_max_position_embeddings")
        original = original or hparams.get("max_position_embeddings")
        if original is not None:
            hparams["original_max_position_embeddings"] = original
            nested["original_max_position_embeddings"] = original
    if kind == "linear" and nested.get("factor") is not None:
        hparams.setdefault("factor", nested["factor"])  # Nemotron's
    if kind != "default" and not hparams.get("rope_scaling"):
        hparams["rope_scaling"] = nested
    if kind == "yarn" and nested.get("attention_factor") is not None:
        return float(nested.pop("attention_factor")) / (0.1 * math.log(nested["factor"]) + 1.0)
    return None
