"""Which models llama.cpp's converter knows, and what it calls them."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import gguf

from edgetune.export.gguf import vocab as gguf_vocab
from edgetune.export.gguf.converter import find_pre_tokenizer, load_conversion


def check_gguf_support(folder: Path) -> list[str]:
    """Return why the model in ``folder`` cannot be a GGUF file; empty when it can.

    Reads the configuration and the tokenizer only, and those once as long as they stay as they
    are: a vocabulary of 150,000 tokens takes five seconds.
    """
    stats = [(one.name, one.stat()) for one in sorted(folder.iterdir())]
    stamp = tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)
    return list(_find_faults(folder, stamp))


@lru_cache(maxsize=8)
def _find_faults(folder: Path, _: object) -> list[str]:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architecture = (config.get("architectures") or ["?"])[0]
    conversion = load_conversion()
    if architecture not in conversion.TEXT_MODEL_MAP:
        return [f"llama.cpp's converter does not know the architecture {architecture}"]
    faults = gguf_vocab.find_vocabulary_faults(folder)
    tokenizer = gguf_vocab.read_tokenizer(folder)
    named = gguf_vocab.name_pre_tokenizer(tokenizer) or not gguf_vocab.is_byte_level(tokenizer)
    if not faults and not named and find_pre_tokenizer(folder) is None:
        faults.append(
            "llama.cpp has no pre-tokenizer that splits text as tokenizer.json does: "
            + json.dumps(tokenizer["pre_tokenizer"], ensure_ascii=False)
        )
    rotates = config.get("no_rope_layers")  # 0 for the layers without
    if rotates and any(bool(one) != bool((at + 1) % 4) for at, one in enumerate(rotates)):
        faults.append(
            f"no_rope_layers is {rotates}; llama.cpp leaves rotary positions out of every fourth "
            "layer alone"
        )
    return faults


def find_architecture(folder: Path) -> tuple[str, int, bool] | None:
    """Return llama.cpp's name of the architecture, the blocks, and whether the head is tied.

    ``None`` where the converter does not know the model.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architecture = (config.get("architectures") or ["?"])[0]
    conversion = load_conversion()
    if architecture not in conversion.TEXT_MODEL_MAP:
        return None
    name = gguf.MODEL_ARCH_NAMES[conversion.get_model_class(architecture).model_arch]
    blocks = int(config.get("num_hidden_layers") or config["n_layer"])  # GPT-2's own name
    return name, blocks, bool(config.get("tie_word_embeddings"))
