"""``adapter_config.json`` of PEFT 0.21: settings that can be merged, and those that are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edgetune.errors import InputError, Unsupported
from edgetune.models.lineage import ADAPTER
from edgetune.models.resolve import read_json
from edgetune.models.skeleton import Skeleton

#: Settings that make of LoRA what no tensor of the base's shape says, and why.
_REFUSED = {
    "alora_invocation_tokens": "it acts only after certain tokens of the input",
    "arrow_config": "it routes each token among several adapters",
    "kasa_config": "it takes a truncated base and a diagonal between its factors",
    "layer_replication": "it repeats layers of the base",
    "megatron_config": "its layers are Megatron's",
    "monteclora_config": "it draws its weights at random",
    "target_parameters": "it tunes parameters that are no layer's (experts stacked in one)",
    "use_bdlora": "its factors are block-diagonal",
    "use_qalora": "it averages inputs in groups",
}
#: Settings that are folded, and those that say only how the training went.
_KNOWN = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config",
    "ensure_weight_tying", "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode",
    "init_lora_weights", "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha",
    "lora_bias", "lora_dropout", "lora_ga_config", "megatron_core", "modules_to_save", "peft_type",
    "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "target_modules",
    "task_type", "trainable_token_indices", "use_dora", "use_rslora", "velora_config",
}  # fmt: skip
_PLAIN_STARTS = ("true", "false", "none", "gaussian", "eva", "orthogonal", "mica")
_CONVERT = (
    "save it once more from the training with path_initial_model_for_weight_conversion, which "
    "makes a plain LoRA of it"
)
#: Starts that changed the base in a way that loading the adapter does not repeat.
_LOST_STARTS = {
    "corda": "its start was taken off the base by the covariance of the training's inputs",
    "loftq": "its base is the one that LoftQ quantized, which is not in the adapter",
    "lora_ga": "its start was taken off the base by the gradients of the training's first batches",
    "pissa_niter": "its start is a random approximation, another one at each loading",
}


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """Return an adapter's configuration.

    Raises:
        InputError: no adapter, or one whose weights are pickled.
        Unsupported: not LoRA, or a variant that cannot be merged.
    """
    config = read_json(folder / "adapter_config.json", "a PEFT adapter has one")
    check_adapter_file(folder)
    if config.get("peft_type") != "LORA":
        raise Unsupported(
            f"cannot fold this adapter: it is {config.get('peft_type')}, not LORA",
            where=str(folder),
            hint="LoRA, rsLoRA and DoRA can be merged",
        )
    if config.get("task_type") == "SEQ_CLS":
        raise InputError(
            "this adapter is of a model that scores texts, and what it writes was not trained",
            where=str(folder),
            hint="name the adapter of a language model; grpo and rloo take a reward model",
        )
    for key, why in _REFUSED.items():
        if config.get(key):
            raise Unsupported(
                f"cannot fold this adapter: {key} is set, so {why}",
                where=str(folder),
                hint="LoRA, rsLoRA and DoRA can be merged",
            )
    unknown = sorted(key for key, value in config.items() if value and key not in _KNOWN)
    unknown = [key for key in unknown if key not in _REFUSED]
    if unknown:
        raise Unsupported(
            f"cannot fold this adapter: adapter_config.json sets '{unknown[0]}', which PEFT 0.21 "
            "does not know",
            where=str(folder),
            hint="it was saved by a newer PEFT: save it without that setting",
        )
    if config.get("lora_bias") and config.get("use_dora"):
        raise Unsupported(
            "cannot fold this adapter: use_dora and lora_bias together",
            where=str(folder),
        )
    return config


def check_adapter_file(folder: Path) -> None:
    """Refuse an adapter without safetensors.

    Raises:
        InputError: there is none, or a pickle.
    """
    if (folder / ADAPTER).is_file():
        return
    if (folder / "adapter_model.bin").is_file():
        raise InputError(
            "its weights are pickled (adapter_model.bin); a pickle can run code, so it is not "
            "opened",
            where=str(folder),
            hint="convert it to safetensors first, on a machine you can lose",
        )
    raise InputError(f"no {ADAPTER} in this adapter", where=str(folder), hint="save it again")


def find_by_pattern(config: dict[str, Any], key: str, module: str, otherwise: Any) -> Any:
    """Return a layer's rank or alpha: a pattern matches the whole or the end of its name.

    As PEFT does (``get_pattern_key``): the first of them that matches, as a regular expression.

    Raises:
        InputError: no regular expression.
    """
    patterns: dict[str, Any] = config.get(key) or {}
    for pattern, value in patterns.items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        except re.error as error:
            raise InputError(
                f"'{pattern}' is no regular expression: {error}",
                where=f"adapter_config.json: {key}",
            ) from error
    return patterns.get(module, otherwise)


def check_start(
    config: dict[str, Any], module: str, embedding: bool, skeleton: Skeleton, where: str
) -> None:
    """Refuse a layer whose start was taken off the base in a way that cannot be done again.

    Raises:
        Unsupported: names the start.
    """
    start = str(config.get("init_lora_weights", True)).lower()
    if start in _PLAIN_STARTS or embedding:
        return
    for name, why in _LOST_STARTS.items():
        if start.startswith(name):
            raise Unsupported(
                f"cannot fold this adapter: init_lora_weights is {start}, and {why}",
                where=where,
                hint=_CONVERT,
            )
    if start not in ("pissa", "olora"):
        raise Unsupported(
            f"cannot fold this adapter: init_lora_weights is {start!r}, which PEFT 0.21 does not "
            "know",
            where=where,
        )
    if start == "olora" and module in skeleton.transposed:
        raise Unsupported(
            f"cannot fold this adapter: OLoRA over '{module}', whose weight is [in, out]",
            where=where,
            hint=_CONVERT,
        )
    if module == skeleton.head and skeleton.tied:
        raise Unsupported(
            f"cannot fold this adapter: {start} over '{module}' was taken off the embedding too, "
            "which this base ties to it",
            where=where,
            hint=_CONVERT,
        )


def refuse_start_over_nf4(config: dict[str, Any], where: str) -> None:
    """Refuse a start that is taken off the base where the base is in 4 bits.

    Raises:
        Unsupported: PEFT cannot do it either (PiSSA), or rounds the rest again (OLoRA).
    """
    start = str(config.get("init_lora_weights", True)).lower()
    if start not in _PLAIN_STARTS:
        raise Unsupported(
            f"cannot fold this adapter over NF4: init_lora_weights is {start}, taken off the base "
            "before it was put into 4 bits",
            where=where,
            hint=_CONVERT,
        )
