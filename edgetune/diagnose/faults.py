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
from edgetune.diagnose.tensors import FolderTensors, GgufTensors
from edgetune.diagnose.weight_faults import (
    expected_types,
    find_weight_faults,
    flatten_config,
    read_if_present,
)
from edgetune.errors import Unsupported
from edgetune.models.checkpoint import Checkpoint
from edgetune.runtimes import GENAI_CONFIG
from edgetune.runtimes.genai_folder import find_graph
from edgetune.runtimes.onnx_header import open_onnx

#: Converting a larger model for the sake of looking waits until a check has failed.
LOOK_BYTES = 4e9


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
            found["weights"] += find_weight_faults(candidate, other, file, expected)
        return found
    if reference.format != "hf":
        return {}
    base, merged = write_reference_folders(reference, scratch)
    wanted = [convert_to_gguf(folder, scratch) for folder in merged]
    before = [convert_to_gguf(folder, scratch) for folder in base]
    found = find_gguf_faults(wanted[0][1].keys, file.keys, candidate.spec)
    merges = [
        measure_merge(plain[1], whole[1], file) for plain, whole in zip(before, wanted, strict=True)
    ]
    fold = _find_merge_fault(reference, merges, candidate.spec)
    if fold is not None:
        found["weights"].insert(0, fold)
        return found
    best = wanted[_best(merges)]
    found["weights"] += find_weight_faults(
        candidate, best[1], file, expected_types(candidate, best[0])
    )
    return found


def _look_at_folder(
    reference: ModelSpec, candidate: ModelSpec, scratch: Path
) -> dict[str, list[Fault]]:
    found: dict[str, list[Fault]] = defaultdict(list)
    source = reference.contract or reference.folder
    found["tokenizer"] = find_tokenizer_faults(
        read_if_present(source / "tokenizer.json"),
        read_if_present(candidate.folder / "tokenizer.json"),
        f"{candidate.spec}/tokenizer.json",
    )
    found["template"] = find_template_faults(
        read_template(source), read_template(candidate.folder), candidate.spec
    )
    found["stopping"] = _end_faults(reference, candidate)
    found["weights"] = find_config_faults(
        flatten_config(read_if_present(reference.folder / "config.json")),
        flatten_config(read_if_present(candidate.folder / "config.json")),
        f"{candidate.spec}/config.json",
    )  # fmt: skip
    base, merged = write_reference_folders(reference, scratch)
    file = FolderTensors(candidate.folder)
    pairs = [(FolderTensors(x), FolderTensors(y)) for x, y in zip(base, merged, strict=True)]
    merges = [measure_merge(x, y, file) for x, y in pairs]
    fold = _find_merge_fault(reference, merges, candidate.spec)
    if fold is not None:
        found["weights"].insert(0, fold)
    else:
        found["weights"] += find_weight_faults(candidate, pairs[_best(merges)][1], file, None)
    return found


def _look_at_onnx(
    reference: ModelSpec, candidate: ModelSpec, scratch: Path
) -> dict[str, list[Fault]]:
    if reference.format == "gguf":
        return {}
    file = open_tensors(candidate.folder)
    config = read_if_present(candidate.folder / GENAI_CONFIG).get("model", {})
    if reference.format == "onnx":
        wanted_folder, merges, best = reference.folder, [], open_tensors(reference.folder)
        fold = None
    else:
        base, merged = write_reference_folders(reference, scratch)
        wanted = [convert_to_onnx(folder, scratch) for folder in merged]
        before = [convert_to_onnx(folder, scratch) for folder in base]
        merges = [measure_merge(x[1], y[1], file) for x, y in zip(before, wanted, strict=True)]
        fold = _find_merge_fault(reference, merges, candidate.spec)
        wanted_folder, best = wanted[_best(merges)]
    found: dict[str, list[Fault]] = defaultdict(list)
    right = read_if_present(wanted_folder / GENAI_CONFIG).get("model", {})
    found["tokenizer"] = find_tokenizer_faults(
        read_if_present(wanted_folder / "tokenizer.json"),
        read_if_present(candidate.folder / "tokenizer.json"),
        f"{candidate.spec}/tokenizer.json",
    )
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
        found["weights"] += find_weight_faults(candidate, best, file, None)
    return found


def _find_merge_fault(
    reference: ModelSpec, merges: Sequence[list[MergedTensor]], where: str
) -> Fault | None:
    """Name the fault of an adapter's merge, over NF4 weights where it was trained on those.

    Args:
        reference: base and adapter.
        merges: over the original weights and, for an adapter over NF4, over its values.
        where: the file.
    """
    if len(merges) < 2 or not all(merges):
        return find_merge_fault(merges, where)
    original, dequantized = (sum(fold.rest for fold in each) / len(each) for each in merges)
    if dequantized <= 0.01 or original > 0.5 * dequantized:
        return find_merge_fault(merges[1:], where)
    return find_merge_fault(merges[:1], where) or Fault(
        "weights", "merged_over_original_base",
        f"the adapter was trained over NF4 values of the base ({reference.trained_over}); it is "
        f"merged into the original weights, {dequantized:.1%} of a weight's norm away from them",
        where, "merge it into the dequantized base: `edgetune merge` measures both",
    )  # fmt: skip


def _best(merges: Sequence[list[Any]]) -> int:
    """Return the base that the weights were merged over: the one of the smallest residual."""
    rests = [sum(fold.rest for fold in each) for each in merges]
    return rests.index(min(rests)) if rests else 0


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
