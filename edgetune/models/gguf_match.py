"""Which tensor of a GGUF file is which parameter of a model, and in which order its rows are.

llama.cpp's converter renames tensors, puts the rows of rotated queries and keys in another order,
and adds one to the weights of Gemma's norms; for the families named here it does nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import AutoConfig

from edgetune.errors import InputError, Unsupported
from edgetune.models.skeleton import build_on_meta
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.runtimes.gguf_header import GgufFile, GgufTensor, open_gguf

#: Factors of the rotation that the configuration has too.
_BESIDE = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
_NORMAL = 1  # llama_token_type of a token that a text can hold


@dataclass(frozen=True)
class Family:
    """What the converter does to a family's tensors.

    Attributes:
        architecture: llama.cpp's name.
        rotated: queries and keys are rotated in neighbouring pairs: their rows are interleaved.
        norm_shift: what is added to the weights of norms.
    """

    architecture: str
    rotated: bool = False
    norm_shift: float = 0.0


#: By ``model_type`` of the configuration.
FAMILIES = {
    "llama": Family("llama", rotated=True),
    "mistral": Family("llama", rotated=True),
    "granite": Family("granite", rotated=True),
    "smollm3": Family("smollm3", rotated=True),
    "qwen2": Family("qwen2"),
    "qwen3": Family("qwen3"),
    "phi3": Family("phi3"),
    "olmo2": Family("olmo2"),
    "gemma": Family("gemma", norm_shift=1.0),
    "gemma2": Family("gemma2", norm_shift=1.0),
    "gemma3_text": Family("gemma3", norm_shift=1.0),
}


@dataclass(frozen=True)
class Match:
    """A parameter and its tensor in the file.

    Attributes:
        parameter: its name in the model.
        name: the tensor's.
        tensor: its place in the file.
        heads: of queries or keys whose rows are interleaved, else 0.
        shift: what the file's values are larger by.
    """

    parameter: str
    name: str
    tensor: GgufTensor
    heads: int = 0
    shift: float = 0.0

    def read(self, path: Path) -> np.ndarray:
        """Return the tensor's bytes, uint8 [..., row bytes], rows in the model's order."""
        raw = np.fromfile(path, "u1", self.tensor.bytes, offset=self.tensor.offset)
        # A vector of the file (a bias, a norm) has its values where a matrix has rows.
        lead = self.tensor.shape[:-1] if len(self.tensor.shape) > 1 else ()
        if not lead and self.heads:
            lead = self.tensor.shape
        rows = raw.reshape(*lead, -1)
        if not self.heads:
            return rows
        # The file has value i of the first half of a head beside value i of the second.
        pairs = rows.reshape(self.heads, -1, 2, rows.shape[-1])
        moved = np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)
        return moved if len(self.tensor.shape) > 1 else moved.reshape(-1)


@dataclass(frozen=True)
class GgufBase:
    """A GGUF file as the weights of a model folder.

    Attributes:
        path: the file.
        config: the folder's, as transformers reads it.
        matches: of every parameter.
        tied: the head has the embedding's weight.
    """

    path: Path
    config: Any
    matches: tuple[Match, ...]
    tied: bool


def match_gguf(folder: Path, path: Path) -> GgufBase:
    """Find every parameter of the model in ``folder`` in a GGUF file.

    Raises:
        Unsupported: a family of which the order of rows is not known.
        InputError: no GGUF file, or one of another model; it says what differs.
    """
    if not path.is_file():
        raise InputError("no such GGUF file", where=str(path))
    file = open_gguf(path)
    config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    text = config.get_text_config()
    family = FAMILIES.get(text.model_type)
    if family is None:
        raise Unsupported(
            f"an adapter cannot be trained over a GGUF file of a {text.model_type}",
            where=str(path),
            hint=f"these can: {', '.join(FAMILIES)}; for others tune and quantize, in this order",
        )
    _check_settings(file, family, text)
    model = build_on_meta(config, str(folder))
    matches = tuple(_match_all(model, file, family, text))
    _check_tensors(file, matches)
    _check_tokens(file, folder)
    return GgufBase(path, config, matches, bool(text.tie_word_embeddings))


def _match_all(model: Any, file: GgufFile, family: Family, text: Any) -> Iterator[Match]:
    numbers = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(numbers[family.architecture], text.num_hidden_layers)
    head = model.get_output_embeddings()
    scored = {f"{name}.weight" for name, module in model.named_modules() if module is head}
    heads = {
        "attn_q": text.num_attention_heads,
        "attn_k": text.num_key_value_heads or text.num_attention_heads,
    }
    for parameter, value in model.named_parameters(remove_duplicate=False):
        if text.tie_word_embeddings and parameter in scored:
            continue
        module, _, kind = parameter.rpartition(".")
        name = f"{names.get_name(module)}.{kind}"
        tensor = file.tensors.get(name)
        if tensor is None:
            raise _other(file, f"it has no tensor {name}, for {parameter} of the model")
        if tensor.shape != tuple(value.shape):
            raise _other(
                file, f"{name} is {_size(tensor.shape)}, and {parameter} {_size(value.shape)}"
            )
        role = name.split(".")[-2]
        yield Match(
            parameter, name, tensor, heads.get(role, 0) if family.rotated else 0,
            family.norm_shift if role.endswith("norm") and kind == "weight" else 0.0,
        )  # fmt: skip


def _check_settings(file: GgufFile, family: Family, text: Any) -> None:
    """Refuse a file whose header describes another model than the configuration."""
    found = file.keys.get("general.architecture")
    if file.keys.get("general.type", "model") != "model":
        raise InputError(
            f"not a model: the file says that it is an {file.keys['general.type']}",
            where=str(file.path),
            hint="name the base model's GGUF file",
        )
    if found != family.architecture:
        raise _other(file, f"it is a {found}, and the folder's model a {family.architecture}")
    rope = getattr(text, "rope_parameters", None) or {}
    wanted: dict[str, Any] = {
        "block_count": text.num_hidden_layers,
        "embedding_length": text.hidden_size,
        "attention.head_count": text.num_attention_heads,
        "attention.head_count_kv": text.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": getattr(text, "rms_norm_eps", None),
        "rope.freq_base": rope.get("rope_theta"),
    }
    for key, value in wanted.items():
        told = file.keys.get(f"{family.architecture}.{key}")
        if told is None or value is None or isinstance(told, list):
            continue
        if not math.isclose(told, value, rel_tol=1e-4):
            raise _other(file, f"its {key} is {told:g}, and the folder's {value:g}")


def _check_tensors(file: GgufFile, matches: tuple[Match, ...]) -> None:
    """Refuse a file with tensors that the model has no place for."""
    known = {match.name for match in matches}.union(_BESIDE)
    extra = [name for name in file.tensors if name not in known]
    if extra:
        raise _other(
            file, f"it has {len(extra)} tensors that the model has no place for, '{extra[0]}' first"
        )


def _check_tokens(file: GgufFile, folder: Path) -> None:
    """Refuse a file whose tokens are not the tokenizer's."""
    tokens = file.keys.get("tokenizer.ggml.tokens")
    if tokens is None:
        raise InputError(
            "it has no tokenizer", where=str(file.path), hint="convert the model with its tokenizer"
        )
    kinds = file.keys.get("tokenizer.ggml.token_type") or [_NORMAL] * len(tokens)
    vocabulary: Mapping[str, int] = load_tokenizer(folder).get_vocab()
    by_id = {number: token for token, number in vocabulary.items()}
    for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True)):
        own = by_id.get(number)
        if kind == _NORMAL and own != token:
            has = "none" if own is None else repr(own)
            raise _other(file, f"its token {number} is {token!r}, and the folder's tokenizer {has}")


def _other(file: GgufFile, what: str) -> InputError:
    return InputError(
        f"this GGUF file is of another model: {what}",
        where=str(file.path),
        hint="name in model.path the Hugging Face folder that the file was made of",
    )


def _size(shape: tuple[int, ...] | torch.Size) -> str:
    return " x ".join(map(str, shape))
