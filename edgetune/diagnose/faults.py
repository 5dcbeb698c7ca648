"""Find the faults of a candidate's files: what differs from a right conversion, by name.

The reference is converted by edgetune's own converters into the candidate's container:
then names, shapes and metadata can be compared one by one, and every difference has a tensor's or a
key's name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgetune.compare.comparison import CHECKS, Check, Fault
from edgetune.compare.loaded import read_template
from edgetune.compare.model_spec import ModelSpec, declared_ends
from edgetune.diagnose.gguf_diff import (
    find_config_faults,
    find_gguf_faults,
    find_template_faults,
    find_tokenizer_faults,
)
from edgetune.diagnose.merge_check import MergedTensor, find_merge_fault, measure_merge
from edgetune.diagnose.reconvert import (
    convert_to_gguf,
    convert_to_onnx,
    open_tensors,
    write_reference_folders,
)
from edgetune.diagnose.tensor_diff import (
    SLACK,
    TensorDifference,
    bits_of,
    diff_tensors,
    own_rounding,
)
from edgetune.diagnose.tensors import FolderTensors, GgufTensors, Tensors
from edgetune.errors import EdgetuneError, Unsupported
from edgetune.models.checkpoint import Checkpoint
from edgetune.models.resolve import read_json
from edgetune.runtimes import GENAI_CONFIG
from edgetune.runtimes.genai_folder import find_graph
from edgetune.runtimes.onnx_header import open_onnx

#: Converting a larger model for the sake of looking waits until a check has failed.
LOOK_BYTES = 4e9
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


def find_faults(
    reference: ModelSpec,
    candidate: ModelSpec,
    checks: Sequence[Check],
    scratch: Path,
    crashed: bool = False,
) -> list[Fault]:
    """Return the causes that can be named, in the order of the checks.

    Tokenizer, template and stopping are explained where their check fails. The weights are looked
    at also where it does not: what is found there is weighed by :mod:`edgetune.compare.verdict`.

    Args:
        reference: the model compared with.
        candidate: the model evaluated.
        checks: what was measured.
        scratch: folder for conversions; the caller removes it.
        crashed: the candidate does not run, so that nothing was measured.
    """
    broken = {check.name for check in checks if check.ok is False or crashed}
    if candidate.format == "hf" and (
        reference.format != "hf" or (candidate.adapted and not reference.adapted)
    ):
        reference, candidate = (
            candidate,
            reference,
        )  # what has to be converted or folded; a file cannot be turned back
    if candidate.adapted:
        return []  # two adapters, in no one's files as they are computed with
    exact = (
        reference.format == "hf" or reference.lossless
    )  # what a lossy file should hold cannot be known
    if not broken and (_size(reference) > LOOK_BYTES or not exact):
        return []
    look: Callable[[ModelSpec, ModelSpec, Path], dict[str, list[Fault]]] = {
        "gguf": _look_at_gguf, "hf": _look_at_folder, "onnx": _look_at_onnx,
    }[candidate.format]  # fmt: skip
    try:
        found = look(reference, candidate, scratch)
    except Unsupported:
        return []  # without a conversion of our own there is nothing to hold the file against
    return [
        fault for name in CHECKS for fault in found.get(name, []) if name in broken
        or (name == "weights" and fault.name != "metadata_changed")
    ]  # fmt: skip


def _size(subject: ModelSpec) -> int:
    if subject.folder.is_file():
        return subject.folder.stat().st_size
    return Checkpoint(subject.folder).bytes


def _look_at_gguf(
    reference: ModelSpec, candidate: ModelSpec, scratch: Path
) -> dict[str, list[Fault]]:
    file = GgufTensors(candidate.folder)
    if reference.format == "gguf":
        other = GgufTensors(reference.folder)
        found = find_gguf_faults(other.keys, file.keys, candidate.spec)
        if reference.lossless:
            expected = (
                expected_types(candidate, reference.folder) if reference.scheme == "F32" else None
            )
            found["weights"] += _weight_faults(candidate, other, file, expected)
        return found
    if reference.format != "hf":
        return {}
    base, merged = write_reference_folders(reference, scratch)
    wanted = [convert_to_gguf(folder, scratch) for folder in merged]
    before = [convert_to_gguf(folder, scratch) for folder in base]
    found = find_gguf_faults(wanted[0][1].keys, file.keys, candidate.spec)
    folds = [
        measure_merge(plain[1], whole[1], file) for plain, whole in zip(before, wanted, strict=True)
    ]
    fold = _fold_fault(reference, folds, candidate.spec)
    if fold is not None:
        found["weights"].insert(0, fold)
        return found
    best = wanted[_best(folds)]
    found["weights"] += _weight_faults(candidate, best[1], file, expected_types(candidate, best[0]))
    return found


def _look_at_folder(
    reference: ModelSpec, candidate: ModelSpec, scratch: Path
) -> dict[str, list[Fault]]:
    found: dict[str, list[Fault]] = defaultdict(list)
    source = reference.contract or reference.folder
    found["tokenizer"] = find_tokenizer_faults(
        _read(source / "tokenizer.json"), _read(candidate.folder / "tokenizer.json"),
        f"{candidate.spec}/tokenizer.json",
    )  # fmt: skip
    found["template"] = find_template_faults(
        read_template(source), read_template(candidate.folder), candidate.spec
    )
    found["stopping"] = _end_faults(reference, candidate)
    found["weights"] = find_config_faults(
        _flat(_read(reference.folder / "config.json")),
        _flat(_read(candidate.folder / "config.json")),
        f"{candidate.spec}/config.json",
    )  # fmt: skip
    base, merged = write_reference_folders(reference, scratch)
    file = FolderTensors(candidate.folder)
    pairs = [(FolderTensors(x), FolderTensors(y)) for x, y in zip(base, merged, strict=True)]
    folds = [measure_merge(x, y, file) for x, y in pairs]
    fold = _fold_fault(reference, folds, candidate.spec)
    if fold is not None:
        found["weights"].insert(0, fold)
    else:
        found["weights"] += _weight_faults(candidate, pairs[_best(folds)][1], file, None)
    return found


def _look_at_onnx(
    reference: ModelSpec, candidate: ModelSpec, scratch: Path
) -> dict[str, list[Fault]]:
    if reference.format == "gguf":
        return {}
    file = open_tensors(candidate.folder)
    config = _read(candidate.folder / GENAI_CONFIG).get("model", {})
    if reference.format == "onnx":
        wanted_folder, folds, best = reference.folder, [], open_tensors(reference.folder)
        fold = None
    else:
        base, merged = write_reference_folders(reference, scratch)
        wanted = [convert_to_onnx(folder, scratch) for folder in merged]
        before = [convert_to_onnx(folder, scratch) for folder in base]
        folds = [measure_merge(x[1], y[1], file) for x, y in zip(before, wanted, strict=True)]
        fold = _fold_fault(reference, folds, candidate.spec)
        wanted_folder, best = wanted[_best(folds)]
    found: dict[str, list[Fault]] = defaultdict(list)
    right = _read(wanted_folder / GENAI_CONFIG).get("model", {})
    found["tokenizer"] = find_tokenizer_faults(
        _read(wanted_folder / "tokenizer.json"), _read(candidate.folder / "tokenizer.json"),
        f"{candidate.spec}/tokenizer.json",
    )  # fmt: skip
    found["template"] = find_template_faults(
        read_template(wanted_folder), read_template(candidate.folder), candidate.spec
    )
    found["stopping"] = _end_faults(reference, candidate)
    found["weights"] = find_config_faults(
        right.get("decoder", {}), config.get("decoder", {}), f"{candidate.spec}/{GENAI_CONFIG}"
    )
    found["weights"] += _attribute_faults(wanted_folder, candidate)
    if fold is not None:
        found["weights"].insert(0, fold)
    else:
        found["weights"] += _weight_faults(candidate, best, file, None)
    return found


def _fold_fault(
    reference: ModelSpec, folds: Sequence[list[MergedTensor]], where: str
) -> Fault | None:
    """Name what is wrong with how the adapter was folded, over NF4 weights where it belongs there.

    Args:
        reference: base and adapter.
        folds: over the original weights and, for an adapter over NF4, over its values.
        where: the file.
    """
    if len(folds) < 2 or not all(folds):
        return find_merge_fault(folds, where)
    original, dequantized = (sum(fold.rest for fold in each) / len(each) for each in folds)
    if dequantized <= 0.01 or original > 0.5 * dequantized:
        return find_merge_fault(folds[1:], where)
    return find_merge_fault(folds[:1], where) or Fault(
        "weights", "merged_over_original_base",
        f"the adapter was trained over NF4 values of the base ({reference.trained_over}); it is "
        f"merged into the original weights, {dequantized:.1%} of a weight's norm away from them",
        where, "merge it into the dequantized base: `edgetune merge` measures both",
    )  # fmt: skip


def _best(folds: Sequence[list[Any]]) -> int:
    """Return which base the weights were folded over: the one that leaves least unexplained."""
    rests = [sum(fold.rest for fold in each) for each in folds]
    return rests.index(min(rests)) if rests else 0


def expected_types(candidate: ModelSpec, reference: Path) -> Callable[[str], str] | None:
    """Return the type that the file's scheme gives each tensor, or none for an unknown scheme."""
    from edgetune.quantize.formats.ggml import stock_types

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


def _weight_faults(
    candidate: ModelSpec, wanted: Tensors, found: Tensors, expected: Callable[[str], str] | None
) -> list[Fault]:
    damages = diff_tensors(wanted, found, expected, _rotary_heads(candidate, found))
    damages += _find_untied_head(wanted, found)
    by_fault: dict[str, list[TensorDifference]] = defaultdict(list)
    for damage in damages:
        by_fault[damage.fault].append(damage)
    for each in by_fault.values():
        each.sort(key=lambda damage: -damage.severity)
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
        config = _flat(_read(candidate.folder / "config.json")) if candidate.format == "hf" else {}
        queries = config.get("num_attention_heads")
        keys = config.get("num_key_value_heads", queries)
        names = {".q_proj.weight": queries, ".k_proj.weight": keys}
    return {
        name: int(count)
        for name, entry in found.entries.items()
        for ending, count in names.items()
        if name.endswith(ending) and isinstance(count, int) and entry.shape[0] % (2 * count) == 0
    }


def _end_faults(reference: ModelSpec, candidate: ModelSpec) -> list[Fault]:
    wanted = {one for ids in declared_ends(reference).values() for one in ids}
    found = declared_ends(candidate)
    named = {one for ids in found.values() for one in ids}
    if not wanted or wanted == named:
        return []
    where = ", ".join(found) or candidate.spec
    if not named:
        what = f"no file names an end token; it is {sorted(wanted)}"
        advice = "name it in generation_config.json or genai_config.json: eos_token_id"
        return [Fault("stopping", "end_token_missing", what, candidate.spec, advice)]
    what = f"the end tokens are {sorted(named)}, not {sorted(wanted)}"
    return [Fault("stopping", "end_token_changed", what, where, f"set them to {sorted(wanted)}")]


def _attribute_faults(wanted: Path, candidate: ModelSpec) -> list[Fault]:
    """Compare the numbers that a graph's operators carry: heads, epsilons, rotary settings."""
    right, given = _attributes(wanted), _attributes(candidate.folder)
    faults = []
    for name in right.keys() & given.keys():
        other = {
            key: (right[name][key], given[name][key])
            for key in right[name].keys() & given[name].keys()
            if right[name][key] != given[name][key]
        }
        for key, (a_value, b_value) in sorted(other.items()):
            what = f"{key} of {name} is {b_value}, not {a_value}"
            where = f"{candidate.spec}: {name}"
            faults.append(Fault("weights", "metadata_changed", what, where, "export it again"))
    return faults[:1]


def _attributes(folder: Path) -> dict[str, dict[str, float]]:
    import onnx

    graph = open_onnx(find_graph(folder)).graph
    kept = ("epsilon", "num_heads", "kv_num_heads", "scale", "local_window_size", "softcap")
    return {
        node.name: {
            one.name: round(one.f, 12) if one.type == onnx.AttributeProto.FLOAT else float(one.i)
            for one in node.attribute
            if one.name in kept
        }
        for node in graph.node
        if any(one.name in kept for one in node.attribute)
    }


def _read(path: Path) -> dict[str, Any]:
    return read_json(path, "") if path.is_file() else {}


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with the rotary settings that transformers 5 nests, unnested."""
    flat = {**config, **(config.get("text_config") or {})}
    rope = flat.get("rope_parameters") or {}
    if "rope_theta" in rope:
        flat.setdefault("rope_theta", rope["rope_theta"])
    return flat
