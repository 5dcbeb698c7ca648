"""Read the files of two models and name what is wrong with the second.

The first model is converted once more, by this house's own converters, into the second's container:
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
from edgetune.compare.model_spec import Subject, declared_ends
from edgetune.diagnose.gguf_diff import (
    find_config_faults,
    find_gguf_faults,
    find_template_faults,
    find_tokenizer_faults,
)
from edgetune.diagnose.merge_check import Fold, find_fold_fault, measure_folds
from edgetune.diagnose.reconvert import as_gguf, as_onnx, open_tensors, plain_folders
from edgetune.diagnose.tensor_diff import SLACK, Damage, bits_of, find_damage, own_rounding
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
    a: Subject, b: Subject, checks: Sequence[Check], scratch: Path, crashed: bool = False
) -> list[Fault]:
    """Return the causes that can be named, in the order of the checks.

    Tokenizer, template and stopping are explained where their check fails. The weights are looked
    at also where it does not: what is found there is weighed by :mod:`edgetune.compare.verdict`.

    Args:
        a: the model that should be the other.
        b: the one on trial.
        checks: what was measured.
        scratch: folder for conversions; the caller removes it.
        crashed: the second model does not run, so that no check was asked.
    """
    broken = {check.name for check in checks if check.ok is False or crashed}
    if b.format == "hf" and (a.format != "hf" or (b.adapted and not a.adapted)):
        a, b = b, a  # what has to be converted or folded; a file cannot be turned back
    if b.adapted:
        return []  # two adapters, in no one's files as they are computed with
    exact = a.format == "hf" or a.lossless  # what a lossy file should hold cannot be known
    if not broken and (_size(a) > LOOK_BYTES or not exact):
        return []
    look: Callable[[Subject, Subject, Path], dict[str, list[Fault]]] = {
        "gguf": _look_at_gguf, "hf": _look_at_folder, "onnx": _look_at_onnx,
    }[b.format]  # fmt: skip
    try:
        found = look(a, b, scratch)
    except Unsupported:
        return []  # without a conversion of our own there is nothing to hold the file against
    return [
        fault for name in CHECKS for fault in found.get(name, []) if name in broken
        or (name == "weights" and fault.name != "metadata_changed")
    ]  # fmt: skip


def _size(subject: Subject) -> int:
    if subject.folder.is_file():
        return subject.folder.stat().st_size
    return Checkpoint(subject.folder).bytes


def _look_at_gguf(a: Subject, b: Subject, scratch: Path) -> dict[str, list[Fault]]:
    file = GgufTensors(b.folder)
    if a.format == "gguf":
        other = GgufTensors(a.folder)
        found = find_gguf_faults(other.keys, file.keys, b.spec)
        if a.lossless:
            expected = expected_types(b, a.folder) if a.scheme == "F32" else None
            found["weights"] += _weight_faults(b, other, file, expected)
        return found
    if a.format != "hf":
        return {}
    base, merged = plain_folders(a, scratch)
    wanted = [as_gguf(folder, scratch) for folder in merged]
    before = [as_gguf(folder, scratch) for folder in base]
    found = find_gguf_faults(wanted[0][1].keys, file.keys, b.spec)
    folds = [
        measure_folds(plain[1], whole[1], file) for plain, whole in zip(before, wanted, strict=True)
    ]
    fold = _fold_fault(a, folds, b.spec)
    if fold is not None:
        found["weights"].insert(0, fold)
        return found
    best = wanted[_best(folds)]
    found["weights"] += _weight_faults(b, best[1], file, expected_types(b, best[0]))
    return found


def _look_at_folder(a: Subject, b: Subject, scratch: Path) -> dict[str, list[Fault]]:
    found: dict[str, list[Fault]] = defaultdict(list)
    source = a.contract or a.folder
    found["tokenizer"] = find_tokenizer_faults(
        _read(source / "tokenizer.json"), _read(b.folder / "tokenizer.json"),
        f"{b.spec}/tokenizer.json",
    )  # fmt: skip
    found["template"] = find_template_faults(read_template(source), read_template(b.folder), b.spec)
    found["stopping"] = _end_faults(a, b)
    found["weights"] = find_config_faults(
        _flat(_read(a.folder / "config.json")), _flat(_read(b.folder / "config.json")),
        f"{b.spec}/config.json",
    )  # fmt: skip
    base, merged = plain_folders(a, scratch)
    file = FolderTensors(b.folder)
    pairs = [(FolderTensors(x), FolderTensors(y)) for x, y in zip(base, merged, strict=True)]
    folds = [measure_folds(x, y, file) for x, y in pairs]
    fold = _fold_fault(a, folds, b.spec)
    if fold is not None:
        found["weights"].insert(0, fold)
    else:
        found["weights"] += _weight_faults(b, pairs[_best(folds)][1], file, None)
    return found


def _look_at_onnx(a: Subject, b: Subject, scratch: Path) -> dict[str, list[Fault]]:
    if a.format == "gguf":
        return {}
    file = open_tensors(b.folder)
    config = _read(b.folder / GENAI_CONFIG).get("model", {})
    if a.format == "onnx":
        wanted_folder, folds, best = a.folder, [], open_tensors(a.folder)
        fold = None
    else:
        base, merged = plain_folders(a, scratch)
        wanted = [as_onnx(folder, scratch) for folder in merged]
        before = [as_onnx(folder, scratch) for folder in base]
        folds = [measure_folds(x[1], y[1], file) for x, y in zip(before, wanted, strict=True)]
        fold = _fold_fault(a, folds, b.spec)
        wanted_folder, best = wanted[_best(folds)]
    found: dict[str, list[Fault]] = defaultdict(list)
    right = _read(wanted_folder / GENAI_CONFIG).get("model", {})
    found["tokenizer"] = find_tokenizer_faults(
        _read(wanted_folder / "tokenizer.json"), _read(b.folder / "tokenizer.json"),
        f"{b.spec}/tokenizer.json",
    )  # fmt: skip
    found["template"] = find_template_faults(
        read_template(wanted_folder), read_template(b.folder), b.spec
    )
    found["stopping"] = _end_faults(a, b)
    found["weights"] = find_config_faults(
        right.get("decoder", {}), config.get("decoder", {}), f"{b.spec}/{GENAI_CONFIG}"
    )
    found["weights"] += _attribute_faults(wanted_folder, b)
    if fold is not None:
        found["weights"].insert(0, fold)
    else:
        found["weights"] += _weight_faults(b, best, file, None)
    return found


def _fold_fault(a: Subject, folds: Sequence[list[Fold]], where: str) -> Fault | None:
    """Name what is wrong with how the adapter was folded, over NF4 weights where it belongs there.

    Args:
        a: base and adapter.
        folds: over the original weights and, for an adapter over NF4, over its values.
        where: the file.
    """
    if len(folds) < 2 or not all(folds):
        return find_fold_fault(folds, where)
    original, dequantized = (sum(fold.rest for fold in each) / len(each) for each in folds)
    if dequantized <= 0.01 or original > 0.5 * dequantized:
        return find_fold_fault(folds[1:], where)
    return find_fold_fault(folds[:1], where) or Fault(
        "weights", "folded_over_original_base",
        f"the adapter was trained over NF4 values of the base ({a.trained_over}); it is folded "
        f"into the original weights, {dequantized:.1%} of a weight's norm away from them",
        where, "fold it into the dequantized base: `edgetune merge` measures both",
    )  # fmt: skip


def _best(folds: Sequence[list[Any]]) -> int:
    """Return which base the weights were folded over: the one that leaves least unexplained."""
    rests = [sum(fold.rest for fold in each) for each in folds]
    return rests.index(min(rests)) if rests else 0


def expected_types(b: Subject, reference: Path) -> Callable[[str], str] | None:
    """Return the type that the file's scheme gives each tensor, or none for an unknown scheme."""
    from edgetune.quantize.formats.ggml import stock_types

    if b.scheme == "F32":
        return lambda name: "F32"
    try:
        types = stock_types(reference, b.scheme).types
    except (EdgetuneError, KeyError):
        return None
    lowest = min((bits_of(one) for one in types.values()), default=0.0)
    # Mixes differ between makers; a tensor below everything that the scheme uses is a mistake.
    floor = next((one for one in types.values() if bits_of(one) == lowest), "F32")
    if b.scheme in ("F16", "BF16", "Q8_0"):
        return lambda name: types.get(name, floor)
    return lambda name: floor


def _weight_faults(
    b: Subject, wanted: Tensors, found: Tensors, expected: Callable[[str], str] | None
) -> list[Fault]:
    damages = find_damage(wanted, found, expected, _rotary_heads(b, found))
    damages += _untied_head(wanted, found)
    by_fault: dict[str, list[Damage]] = defaultdict(list)
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
        where = f"{b.spec}: {worst.tensor}"
        faults.append(Fault("weights", slug, worst.what + more, where, advice))
    return faults


def _untied_head(wanted: Tensors, found: Tensors) -> list[Damage]:
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
    return [Damage(head, "head_untied", what)]


def _rotary_heads(b: Subject, found: Tensors) -> dict[str, int]:
    """Return the number of heads of each query and key weight."""
    if isinstance(found, GgufTensors):
        architecture = found.keys.get("general.architecture")
        queries = found.keys.get(f"{architecture}.attention.head_count")
        keys = found.keys.get(f"{architecture}.attention.head_count_kv", queries)
        names = {".attn_q.weight": queries, ".attn_k.weight": keys}
    else:
        config = _flat(_read(b.folder / "config.json")) if b.format == "hf" else {}
        queries = config.get("num_attention_heads")
        keys = config.get("num_key_value_heads", queries)
        names = {".q_proj.weight": queries, ".k_proj.weight": keys}
    return {
        name: int(count)
        for name, entry in found.entries.items()
        for ending, count in names.items()
        if name.endswith(ending) and isinstance(count, int) and entry.shape[0] % (2 * count) == 0
    }


def _end_faults(a: Subject, b: Subject) -> list[Fault]:
    wanted = {one for ids in declared_ends(a).values() for one in ids}
    found = declared_ends(b)
    named = {one for ids in found.values() for one in ids}
    if not wanted or wanted == named:
        return []
    where = ", ".join(found) or b.spec
    if not named:
        what = f"no file names an end token; it is {sorted(wanted)}"
        advice = "name it in generation_config.json or genai_config.json: eos_token_id"
        return [Fault("stopping", "end_token_missing", what, b.spec, advice)]
    what = f"the end tokens are {sorted(named)}, not {sorted(wanted)}"
    return [Fault("stopping", "end_token_changed", what, where, f"set them to {sorted(wanted)}")]


def _attribute_faults(wanted: Path, b: Subject) -> list[Fault]:
    """Compare the numbers that a graph's operators carry: heads, epsilons, rotary settings."""
    right, given = _attributes(wanted), _attributes(b.folder)
    faults = []
    for name in right.keys() & given.keys():
        other = {
            key: (right[name][key], given[name][key])
            for key in right[name].keys() & given[name].keys()
            if right[name][key] != given[name][key]
        }
        for key, (a_value, b_value) in sorted(other.items()):
            what = f"{key} of {name} is {b_value}, not {a_value}"
            where = f"{b.spec}: {name}"
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
