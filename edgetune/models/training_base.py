"""On what an adapter was trained: the weights as they are, their NF4 values, or a GGUF file's.

An adapter over NF4 weights has learnt to correct their rounding too, so it belongs to the
dequantized base: over the original one it is another model. PEFT writes nothing of this into the
adapter itself, so it is looked for where tools do leave a word.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from edgetune.artifact import ENTRY, load_artifact
from edgetune.errors import InputError, Unsupported
from edgetune.models.lineage import read_metadata
from edgetune.models.ref import ModelRef

KEY = "edgetune.trained_over"  # in the metadata of the adapter's file
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class TrainingBase:
    """What an adapter's base was in its training.

    Attributes:
        nf4: its linear layers were in NF4 (QLoRA).
        dtype: they were put into 4 bits from this dtype, and are dequantized in it; ``None`` where
            only NF4 itself is known.
        source: who says so.
        gguf: SHA-256 of the GGUF file whose weights they were, or none.
    """

    nf4: bool
    dtype: str | None
    source: str
    gguf: str | None = None

    def __str__(self) -> str:
        if self.gguf:
            return f"gguf:{self.gguf}"
        return f"nf4:{self.dtype}" if self.nf4 and self.dtype else "nf4" if self.nf4 else "original"


def parse_training_base(text: str, source: str) -> TrainingBase | None:
    """Read ``original``, ``nf4``, ``nf4:bfloat16`` or ``gguf:SHA256``; ``None`` for all else."""
    kind, _, dtype = text.partition(":")
    if kind == "gguf" and dtype:
        return TrainingBase(False, None, source, dtype)
    if kind == "nf4" and (dtype in DTYPES or dtype == ""):
        return TrainingBase(True, dtype or None, source)
    return TrainingBase(False, None, source) if text == "original" else None


def refuse_merge_over_gguf(adapter: Path) -> NoReturn:
    """Refuse to merge what was trained over a GGUF file's weights.

    Raises:
        Unsupported: always.
    """
    raise Unsupported(
        "this adapter was trained over the weights of a GGUF file and is right over them alone; "
        "merged and quantized again it would be another model",
        where=str(adapter),
        hint="export it as it is (a recipe with tune.base and export, without merge and quantize), "
        "and load it over that file: llama-cli -m FILE --lora ADAPTER",
    )


def find_training_base(adapter: Path) -> TrainingBase | None:
    """Return on what an adapter was trained, or ``None`` where nothing says it.

    Asked in this order: the metadata of its file, the tune artifact that it lies in, the model card
    that PEFT writes beside a quantized training, the name of the base (``…-bnb-4bit``).
    """
    stamp = read_metadata(adapter).get(KEY)
    if stamp and (found := parse_training_base(stamp, "the adapter's file")):
        return found
    return _of_artifact(adapter) or _of_card(adapter) or _of_base_name(adapter)


def _of_artifact(adapter: Path) -> TrainingBase | None:
    for folder in (adapter, adapter.parent):
        if not (folder / ENTRY).is_file():
            continue
        with suppress(InputError, KeyError, TypeError):
            facts = load_artifact(folder).facts
            for name in ("model", "student"):
                ref = facts.get(name) and ModelRef.from_json(facts[name], folder)
                if ref and ref.adapter and ref.adapter.resolve() == adapter.resolve():
                    dtype = ref.nf4_dtype if ref.nf4 else None
                    return TrainingBase(ref.nf4, dtype, str(folder / ENTRY))
    return None


def _of_card(adapter: Path) -> TrainingBase | None:
    card = adapter / "README.md"
    with suppress(OSError, ValueError):
        card_values = dict(
            re.findall(r"^- (\w+): (\S+)\s*$", card.read_text(encoding="utf-8"), re.M)
        )
        if (
            card_values.get("load_in_4bit") == "True"
            and card_values.get("bnb_4bit_quant_type", "nf4") == "nf4"
        ):
            dtype = card_values.get("bnb_4bit_compute_dtype", "").removeprefix("torch.")
            return TrainingBase(True, dtype if dtype in DTYPES else None, str(card))
    return None


def _of_base_name(adapter: Path) -> TrainingBase | None:
    path = adapter / "adapter_config.json"
    with suppress(OSError, ValueError, AttributeError):
        config: Any = json.loads(path.read_text(encoding="utf-8"))
        if "bnb-4bit" in str(config.get("base_model_name_or_path")):
            return TrainingBase(True, None, f"{path}: base_model_name_or_path")
    return None
