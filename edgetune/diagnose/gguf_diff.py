"""Compare the metadata of a GGUF file or an ONNX folder with that of a fresh conversion."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from edgetune.compare.comparison import Fault

_TOKENS = "tokenizer.ggml."
#: Keys that may differ between two right files.
_FREE = ("general.", "tokenizer.", "edgetune.", "split.", "quantize.", "imatrix.")
TOKEN_TYPES = {1: "normal", 2: "unknown", 3: "control", 4: "user defined", 5: "unused", 6: "byte"}


def find_gguf_faults(
    reference: Mapping[str, Any], candidate: Mapping[str, Any], where: str
) -> dict[str, list[Fault]]:
    """Compare a file's metadata with that of a right conversion.

    Returns:
        Faults by the check they break: ``tokenizer``, ``template``, ``stopping``, ``weights``.
    """
    return {
        "tokenizer": _find_vocabulary_faults(reference, candidate, where),
        "template": find_template_faults(
            reference.get("tokenizer.chat_template"),
            candidate.get("tokenizer.chat_template"),
            where,
        ),
        "stopping": _find_end_faults(reference, candidate, where),
        "weights": _find_key_faults(reference, candidate, where),
    }


def _find_key_faults(
    reference: Mapping[str, Any], candidate: Mapping[str, Any], where: str
) -> list[Fault]:
    faults = []
    for key, value in reference.items():
        if key.startswith(_FREE):
            continue
        got = candidate.get(key)
        if got is None or _same(value, got):
            continue
        faults.append(
            Fault(
                "weights", "metadata_changed", f"{key} is {_short(got)}, not {_short(value)}",
                f"{where}: {key}", "convert the model again: a runtime computes with this value",
            )
        )  # fmt: skip
    architecture = reference.get("general.architecture"), candidate.get("general.architecture")
    if architecture[0] != architecture[1]:
        what = f"the architecture is {architecture[1]}, not {architecture[0]}"
        faults.insert(0, Fault("weights", "metadata_changed", what, where, "convert it again"))
    return faults


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) or isinstance(b, float):
        return abs(float(a) - float(b)) <= 1e-6 * max(abs(float(a)), 1e-12)
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return all(_same(x, y) for x, y in zip(a, b, strict=True))
    # A count that is the same for every layer may be written once or as a list.
    if isinstance(a, list) != isinstance(b, list):
        many, one = (a, b) if isinstance(a, list) else (b, a)
        return all(_same(each, one) for each in many)
    return bool(a == b)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 48 else text[:45] + "…"


def _find_vocabulary_faults(
    reference: Mapping[str, Any], candidate: Mapping[str, Any], where: str
) -> list[Fault]:
    def fault(name: str, key: str, what: str, advice: str) -> Fault:
        return Fault("tokenizer", name, what, f"{where}: {_TOKENS}{key}", advice)

    def both(key: str) -> tuple[Any, Any]:
        return reference.get(_TOKENS + key), candidate.get(_TOKENS + key)

    faults = []
    (model_ref, model), (pre_ref, pre) = both("model"), both("pre")
    if model_ref != model:
        what = f"the vocabulary is of the kind '{model}', not '{model_ref}'"
        faults.append(fault("vocabulary_kind_changed", "model", what, "convert the model again"))
    if pre_ref != pre and model_ref == "gpt2":  # SentencePiece has none, whatever the key says
        what = f"the pre-tokenizer is '{pre}', not '{pre_ref}': text is split otherwise"
        advice = "convert with a converter that knows this tokenizer, or set the key"
        faults.append(fault("pre_tokenizer_changed", "pre", what, advice))
    merges_ref, merges = both("merges")
    if (merges_ref or []) != (merges or []):
        what = f"{len(merges or [])} merges, where the tokenizer has {len(merges_ref or [])}"
        faults.append(fault("merges_changed", "merges", what, "convert the model again"))
    tokens_ref, tokens = both("tokens")
    other = _differing(tokens_ref or [], tokens or [])
    if other:
        what = f"{len(other)} tokens have another text, id {other[0]} the first"
        faults.append(fault("vocabulary_changed", "tokens", what, "convert the model again"))
    types_ref, types = both("token_type")
    other = _differing(types_ref or [], types or [])
    if other:
        names = [
            f"{tokens_ref[i]!r} is {TOKEN_TYPES.get(types[i])}, not {TOKEN_TYPES.get(types_ref[i])}"
            for i in other[:3]
            if i < min(len(types_ref), len(types))
        ]
        what = f"{len(other)} tokens are of another type: " + "; ".join(names)
        advice = "a special token that became text is spelled in pieces; convert the model again"
        faults.append(fault("token_type_changed", "token_type", what, advice))
    scores_ref, scores = both("scores")
    if scores_ref and scores and _ranks_differ(scores_ref, scores):
        flat = len(set(scores)) < len(scores) / 10
        ranks = "nearly every piece has one score" if flat else "pieces have other ranks"
        what = f"{ranks}, so pieces are merged in another order than the tokenizer's"
        advice = "convert again with scores by merge rank, as `edgetune export` writes them"
        faults.append(fault("scores_lost", "scores", what, advice))
    for key in ("add_bos_token", "add_space_prefix"):
        a, b = both(key)
        if a is not None and b is not None and a != b:
            what = f"it is {b}, not {a}"
            faults.append(fault(f"{key}_changed", key, what, "convert the model again"))
    return faults


def _differing(a: Sequence[Any], b: Sequence[Any]) -> list[int]:
    longest = max(len(a), len(b))
    return [i for i in range(longest) if i >= len(a) or i >= len(b) or a[i] != b[i]]


def _ranks_differ(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two score lists order the pieces otherwise; only the order ever counts."""
    if len(a) != len(b):
        return True
    order = sorted(range(len(a)), key=lambda i: (-a[i], i))
    return any(b[i] < b[j] or (a[i] > a[j] and b[i] == b[j]) for i, j in pairwise(order))


def find_template_faults(reference: Any, candidate: Any, where: str) -> list[Fault]:
    """Name how one chat template differs from another."""
    if reference == candidate or reference is None:
        return []
    advice = "write the template of the tuned model into the file; it is in its contract"
    if not candidate:
        return [Fault("template", "template_missing", "the file carries none", where, advice)]
    if str(reference).split() == str(candidate).split():
        what = "the chat template differs in white space"
    else:
        what = "the chat template is another"
    return [Fault("template", "template_changed", what, where, advice)]


def _find_end_faults(
    reference: Mapping[str, Any], candidate: Mapping[str, Any], where: str
) -> list[Fault]:
    faults = []
    for name in ("eos", "eot"):
        key = f"{_TOKENS}{name}_token_id"
        a, b = reference.get(key), candidate.get(key)
        if a == b or a is None:
            continue
        advice = f"set {key} to {a}"
        if b is None:
            what = f"the file does not name the end token {a}"
            faults.append(Fault("stopping", "end_token_missing", what, f"{where}: {key}", advice))
        else:
            what = f"the end token is {b}, not {a}"
            faults.append(Fault("stopping", "end_token_changed", what, f"{where}: {key}", advice))
    return faults


def find_config_faults(
    reference: Mapping[str, Any], candidate: Mapping[str, Any], where: str
) -> list[Fault]:
    """Compare what two ``config.json`` or ``genai_config.json`` compute with."""
    faults = []
    for key in COMPUTED_KEYS:
        a, b = reference.get(key), candidate.get(key)
        if a is None or b is None or _same(a, b):
            continue
        what = f"{key} is {_short(b)}, not {_short(a)}"
        advice = "restore the value of the model it was made of"
        faults.append(Fault("weights", "metadata_changed", what, f"{where}: {key}", advice))
    return faults


#: Keys of a configuration that change what is computed.
COMPUTED_KEYS = (
    "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "head_size", "rope_theta", "rope_scaling", "rope_parameters",
    "rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "hidden_act", "sliding_window",
    "tie_word_embeddings", "vocab_size", "attn_logit_softcapping", "final_logit_softcapping",
    "query_pre_attn_scalar", "embedding_multiplier", "attention_multiplier", "residual_multiplier",
    "logits_scaling",
)  # fmt: skip


def tokenizer_parts(tokenizer: Mapping[str, Any]) -> dict[str, str]:
    """Return the parts of a ``tokenizer.json`` as comparable text."""
    model = tokenizer.get("model", {})
    parts = {
        "normalizer": tokenizer.get("normalizer"),
        "pre_tokenizer": tokenizer.get("pre_tokenizer"),
        "merges": model.get("merges"),
        "vocab": model.get("vocab"),
        "added_tokens": tokenizer.get("added_tokens"),
    }
    return {name: json.dumps(part, sort_keys=True) for name, part in parts.items()}


def find_tokenizer_faults(
    reference: Mapping[str, Any], candidate: Mapping[str, Any], where: str
) -> list[Fault]:
    """Name which parts of one ``tokenizer.json`` differ from another's."""
    names = {
        "normalizer": "normalizer_changed", "pre_tokenizer": "pre_tokenizer_changed",
        "merges": "merges_changed", "vocab": "vocabulary_changed",
        "added_tokens": "token_type_changed",
    }  # fmt: skip
    a, b = tokenizer_parts(reference), tokenizer_parts(candidate)
    return [
        Fault(
            "tokenizer", names[part], f"'{part}' is another", f"{where}: {part}",
            "restore the tokenizer.json that training used",
        )
        for part in a
        if a[part] != b[part]
    ]  # fmt: skip
