"""GGUF files: names, tensors and metadata from llama.cpp's converter, bytes from ggml.

The converter is the one that auto-round carries (pinned; ``LLAMA_CPP_ROOT`` names another
checkout). It is loaded without auto-round itself, whose import takes ten seconds. It writes one F32
file; every other file is that one with its tensors quantized.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import gguf
import numpy as np

from edgetune.artifact import hash_file
from edgetune.data.contract import NAME as CONTRACT
from edgetune.data.contract import read_contract
from edgetune.errors import EdgetuneError, InputError, Unsupported
from edgetune.export import gguf_vocab
from edgetune.quantize.ggml import file_type, quantize_tensor
from edgetune.runtimes.gguf_header import GgufFile

_OWN_KEYS = ("general.architecture",)  # what the writer writes by itself


@dataclass(frozen=True)
class GgufHeader:
    """What a file says of itself beyond what the converter reads from the model folder.

    Attributes:
        name: ``general.name``.
        end_id: token that ends an answer.
        other_end_id: a second token that ends one, or none.
        add_bos: whether a client puts the BOS token before a text.
        extra: further string keys, such as hashes of the contract and the chat template.
    """

    name: str
    end_id: int | None = None
    other_end_id: int | None = None
    add_bos: bool | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


def header_of(model: Path, name: str) -> GgufHeader:
    """Return what the contract in ``model`` wants a GGUF file to say."""
    if not (model / CONTRACT).is_file():
        return GgufHeader(name)
    contract = read_contract(model)
    end, *others = contract["stop_ids"]
    hashes = {
        "edgetune.contract.sha256": hash_file(model / CONTRACT),
        "edgetune.chat_template.sha256": contract["chat_template_sha256"],
    }
    # A client that puts BOS before a text must not, where training's prompts have none.
    begin = json.loads((model / "config.json").read_text(encoding="utf-8")).get("bos_token_id")
    begins = all(golden["ids"][:1] == [begin] for golden in contract["golden"])
    other = others[0] if others else None
    return GgufHeader(name, end, other, None if begins else False, hashes)


def check_gguf_support(folder: Path) -> list[str]:
    """Return why the model in ``folder`` cannot be a GGUF file; empty when it can.

    Reads the configuration and the tokenizer only.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architecture = (config.get("architectures") or ["?"])[0]
    conversion = _load_conversion()
    if architecture not in conversion.TEXT_MODEL_MAP:
        return [f"llama.cpp's converter does not know the architecture {architecture}"]
    faults = gguf_vocab.find_vocabulary_faults(folder)
    tokenizer = gguf_vocab.read_tokenizer(folder)
    if not faults and gguf_vocab.is_byte_level(tokenizer) and _name_pre_tokenizer(folder) is None:
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


def convert_gguf(folder: Path, target: Path, header: GgufHeader) -> None:
    """Write the model in ``folder`` as an F32 GGUF file.

    Raises:
        Unsupported: the converter refuses the model.
    """
    faults = check_gguf_support(folder)
    if faults:
        raise Unsupported("; ".join(faults), where=str(folder))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    with quiet_converter() as complaints:
        try:
            kind = make_converter(config["architectures"][0], header)
            name = gguf_vocab.fit_name(header.name, gguf_vocab.read_tokenizer(folder))
            converter = kind(folder, gguf.LlamaFileType.ALL_F32, target, model_name=name)
            if "n_positions" in converter.hparams:  # GPT-2: transformers 5 writes no n_ctx
                converter.hparams.setdefault("n_ctx", converter.hparams["n_positions"])
            converter.prepare_tensors()
            converter.prepare_metadata(vocab_only=False)
            writer = converter.gguf_writer
            writer.write_header_to_file(path=target)
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file(progress=False)
            writer.close()
        except EdgetuneError:
            raise
        except Exception as error:  # the converter raises every kind, bare ones among them
            said = " ".join([f"{type(error).__name__}: {error}", *complaints])
            raise Unsupported(
                f"llama.cpp's converter fails: {said}",
                where=str(folder),
                hint="set LLAMA_CPP_ROOT to a newer llama.cpp checkout",
            ) from error


def write_gguf(
    source: GgufFile,
    target: Path,
    scheme: str,
    types: Mapping[str, str],
    importance: Mapping[str, np.ndarray] | None = None,
    ready: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write an F32 file again with its tensors in the plan's ``types``, one tensor at a time.

    Tensors in ``ready`` are bytes of their type already and are written as they are.

    Raises:
        InputError: a tensor is not in the plan, or holds NaN.
    """
    weights, made = importance or {}, ready or {}
    with quiet_converter():
        writer = gguf.GGUFWriter(target, source.keys["general.architecture"])
        number = file_type(scheme)
        for key, value in source.keys.items():
            if key not in _OWN_KEYS and (number is not None or key != "general.file_type"):
                kind, inner = source.types[key]
                sub_type = None if inner is None else gguf.GGUFValueType(inner)
                writer.add_key_value(key, value, gguf.GGUFValueType(kind), sub_type=sub_type)
        if number is not None:
            writer.add_file_type(int(number))
        for name, tensor in source.tensors.items():
            if name not in types:
                raise InputError("the plan has no type for this tensor", where=name)
            type_ = gguf.GGMLQuantizationType[types[name]]
            shape = gguf.quant_shape_to_byte_shape(tensor.shape, type_)
            if name in made and made[name].shape != shape:
                raise InputError(
                    f"its trained bytes have shape {made[name].shape}, not {shape}", where=name
                )
            writer.add_tensor_info(
                name, shape, np.dtype(np.uint8), int(np.prod(shape)), raw_dtype=type_
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name in source.tensors:
            writer.write_tensor_data(
                made[name]
                if name in made
                else quantize_tensor(source.read(name), types[name], weights.get(name), name)
            )
        writer.close()


def find_architecture(folder: Path) -> tuple[str, int, bool] | None:
    """Return llama.cpp's name of the architecture, the blocks, and whether the head is tied.

    ``None`` where the converter does not know the model.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architecture = (config.get("architectures") or ["?"])[0]
    conversion = _load_conversion()
    if architecture not in conversion.TEXT_MODEL_MAP:
        return None
    name = gguf.MODEL_ARCH_NAMES[conversion.get_model_class(architecture).model_arch]
    blocks = int(config.get("num_hidden_layers") or config["n_layer"])  # GPT-2's own name
    return name, blocks, bool(config.get("tie_word_embeddings"))


def make_converter(architecture: str, header: GgufHeader) -> type[Any]:
    """Return llama.cpp's converter class with our vocabulary and header."""
    parent = _load_conversion().get_model_class(architecture)

    class Converter(parent):  # type: ignore[misc, valid-type]
        model_arch = parent.model_arch

        def set_vocab(self) -> None:
            if self._needs_scores():
                self._set_vocab_sentencepiece()
            else:
                super().set_vocab()
            _set_ends(self.gguf_writer, header)

        def _create_vocab_sentencepiece(self) -> Any:
            if not self._needs_scores():
                return super()._create_vocab_sentencepiece()
            read = gguf_vocab.read_sentencepiece(self.dir_model, self.hparams["vocab_size"])
            self.gguf_writer.add_add_space_prefix(read.space_prefix)
            return read.tokens, read.scores, read.types

        def _needs_scores(self) -> bool:
            if (self.dir_model / "tokenizer.model").is_file():
                return False
            return gguf_vocab.is_sentencepiece(gguf_vocab.read_tokenizer(self.dir_model))

        def get_vocab_base_pre(self, tokenizer: Any) -> str:
            name = _name_pre_tokenizer(self.dir_model, tokenizer)
            if name is None:
                raise Unsupported("the BPE pre-tokenizer is unknown", where=str(self.dir_model))
            return name

    return Converter


def _set_ends(writer: gguf.GGUFWriter, header: GgufHeader) -> None:
    """Write the header's keys over the converter's, which only knows the tokenizer's own EOS."""
    if header.end_id is not None:
        writer.add_eos_token_id(header.end_id)
    if header.other_end_id is not None:
        writer.add_eot_token_id(header.other_end_id)
    if header.add_bos is not None:
        writer.add_add_bos_token(header.add_bos)
    for key, value in header.extra.items():
        writer.add_string(key, value)


def _name_pre_tokenizer(folder: Path, tokenizer: Any = None) -> str | None:
    """Name the pre-tokenizer by the converter's own table of hashes, else by its regex."""
    conversion = _load_conversion()
    if tokenizer is None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder)
    with quiet_converter():
        try:
            name = conversion.TextModel.get_vocab_base_pre(None, tokenizer)
            return str(name)
        except NotImplementedError:
            return gguf_vocab.name_pre_tokenizer(gguf_vocab.read_tokenizer(folder))


@cache
def _load_conversion() -> ModuleType:
    """Import the converter's package, which insists on being called ``conversion``.

    Raises:
        InputError: there is none.
    """
    root = os.environ.get("LLAMA_CPP_ROOT")
    if root:
        folder = Path(root) / "conversion"
    else:
        found = importlib.util.find_spec("auto_round")
        if found is None or found.origin is None:
            raise InputError("auto-round is not installed", hint="pip install auto-round==0.14.2")
        folder = Path(found.origin).parent / "export" / "export_to_gguf" / "conversion"
    spec = importlib.util.spec_from_file_location(
        "conversion", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None or not (folder / "__init__.py").is_file():
        raise InputError("no llama.cpp converter there", where=str(folder))
    module = importlib.util.module_from_spec(spec)
    sys.modules["conversion"] = module
    path = list(sys.path)
    try:
        with quiet_converter():
            spec.loader.exec_module(module)
    finally:
        sys.path[:] = path  # it puts a folder gguf-py on the path, which is not there
    return module


@contextmanager
def quiet_converter() -> Iterator[list[str]]:
    """Keep the converter's hundreds of log lines; yield its errors as they come."""
    complaints: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR:
                complaints.append(record.getMessage())

    handler = Keep()
    loggers = [logging.getLogger(name) for name in ("hf-to-gguf", "gguf")]
    before = [(each.propagate, each.handlers) for each in loggers]
    for each in loggers:
        each.propagate, each.handlers = False, [handler]
    try:
        yield complaints
    finally:
        for each, (propagate, handlers) in zip(loggers, before, strict=True):
            each.propagate, each.handlers = propagate, handlers
