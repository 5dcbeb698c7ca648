"""Faults of a candidate's weights: differences between tensors, with a remedy for each kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgetune.compare.comparison import Fault
from edgetune.compare.model_spec import ModelSpec
from edgetune.diagnose.tensor_diff import (
    SLACK,
    TensorDifference,
    bits_of,
    diff_tensors,
    own_rounding,
)
from edgetune.diagnose.tensors import GgufTensors, Tensors
from edgetune.errors import EdgetuneError
from edgetune.models.resolve import read_json

_ADVICE = {
    "missing": "convert the model again",
    "zeroed": "convert the model again from whole weights",
    "transposed": "convert the model again; its converter confuses [in, out] with [out, in]",
    "rows_not_permuted": "convert with a converter that knows this architecture's rotary order",
    "scaled": "convert the model again; look for a scale that is applied twice",
    "quantized_twice": "quantize from the 16-bit model, not from a quantized file",
    "wrong_precision": "quantize again with one scheme for the whole file",
    "shape": "convert the model again",
    "rounded": "write the weights in the precision they were trained in",
    "differs": "convert the model again; if it stays, the file was made of other weights",
}
_HEADS = ("output.weight", "lm_head.weight")
_EMBEDDINGS = ("token_embd.weight", "model.embed_tokens.weight", "transformer.wte.weight")


def expected_types(candidate: ModelSpec, reference: Path) -> Callable[[str], str] | None:
    """Return the type that the file's scheme gives each tensor, or none for an unknown scheme."""
    from edgetune.quantize.formats.llama_quantize import stock_types

    if candidate.scheme == "F32":
        return lambda name: "F32"
    try:
        types = stock_types(reference, candidate.scheme).types
    except (EdgetuneError, KeyError):
        return None
    lowest = min((bits_of(one) for one in types.values()), default=0.0)
    # Mixes differ between makers; a tensor below everything that the scheme uses is a mistake.
    floor = next((one for one in types.values() if bits_of(one) == lowest), "F32")
    if candidate.scheme in ("F16", "BF16", "Q8_0"):
        return lambda name: types.get(name, floor)
    return lambda name: floor


def find_weight_faults(
    candidate: ModelSpec, wanted: Tensors, found: Tensors, expected: Callable[[str], str] | None
) -> list[Fault]:
    """Return one fault for each kind of difference between tensors, the most severe first."""
    differences = diff_tensors(wanted, found, expected, _rotary_heads(candidate, found))
    differences += _find_untied_head(wanted, found)
    by_fault: dict[str, list[TensorDifference]] = defaultdict(list)
    for difference in differences:
        by_fault[difference.fault].append(difference)
    for each in by_fault.values():
        each.sort(key=lambda difference: -difference.severity)
    order = [*_ADVICE, "head_untied"]
    faults = []
    for name in sorted(by_fault, key=lambda one: (-by_fault[one][0].severity, order.index(one))):
        worst, *others = by_fault[name]
        more = f" (the worst of {len(others) + 1} tensors)" if others else ""
        advice = _ADVICE.get(name, "write the head from the embedding, or none at all")
        plain = ("quantized_twice", "wrong_precision", "head_untied", "rows_not_permuted")
        slug = name if name in plain else f"tensor_{name}"
        where = f"{candidate.spec}: {worst.tensor}"
        faults.append(Fault("weights", slug, worst.what + more, where, advice))
    return faults


def _find_untied_head(wanted: Tensors, found: Tensors) -> list[TensorDifference]:
    """A head of its own, where the model has none, must at least equal the embedding."""
    import numpy as np

    head = next((n for n in _HEADS if n in found.entries and n not in wanted.entries), None)
    source = next((n for n in _EMBEDDINGS if n in wanted.entries), None)
    if head is None or source is None or found.entries[head].shape != wanted.entries[source].shape:
        return []
    values = wanted.read(source)
    error = float(np.linalg.norm(found.read(head) - values) / (np.linalg.norm(values) or 1.0))
    if error <= SLACK * own_rounding(values, found.entries[head].type) + 1e-7:
        return []
    what = f"the file has a head of its own, {error:.1%} away from the embedding it is tied to"
    return [TensorDifference(head, "head_untied", what)]


def _rotary_heads(candidate: ModelSpec, found: Tensors) -> dict[str, int]:
    """Return the number of heads of each query and key weight."""
    if isinstance(found, GgufTensors):
        architecture = found.keys.get("general.architecture")
        queries = found.keys.get(f"{architecture}.attention.head_count")
        keys = found.keys.get(f"{architecture}.attention.head_count_kv", queries)
        names = {".attn_q.weight": queries, ".attn_k.weight": keys}
    else:
        config = (
            flatten_config(read_if_present(candidate.folder / "config.json"))
            if candidate.format == "hf"
            else {}
        )
        queries = config.get("num_attention_heads")
        keys = config.get("num_key_value_heads", queries)
        names = {".q_proj.weight": queries, ".k_proj.weight": keys}
    return {
        name: int(count)
        for name, entry in found.entries.items()
        for ending, count in names.items()
        if name.endswith(ending) and isinstance(count, int) and entry.shape[0] % (2 * count) == 0
    }


def read_if_present(path: Path) -> dict[str, Any]:
    """Return a JSON file's object; empty where there is no such file."""
    return read_json(path, "") if path.is_file() else {}


def flatten_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with the rotary settings that transformers 5 nests, unnested."""
    flat = {**config, **(config.get("text_config") or {})}
    rope = flat.get("rope_parameters") or {}
    if "rope_theta" in rope:
        flat.setdefault("rope_theta", rope["rope_theta"])
    return flat
