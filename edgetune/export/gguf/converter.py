"""llama.cpp's own converter, with our vocabulary and header: names, tensors and metadata.

It is the one that auto-round carries (pinned; ``LLAMA_CPP_ROOT`` names another checkout), loaded
without auto-round itself, whose import takes ten seconds.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import gguf
import gguf.utility

from edgetune.errors import InputError, Unsupported
from edgetune.export.gguf import vocab as gguf_vocab
from edgetune.models.checkpoint import INDEX, Checkpoint


@dataclass(frozen=True)
class GgufHeader:
    """What a file says of itself beyond what the converter reads from the model folder.

    Attributes:
        name: ``general.name``.
        end_id: token that ends an answer.
        other_end_id: a second token that ends one, or none.
        add_bos: whether a client puts the BOS token before a text.
        begin_id: BOS token of a model that names none. Nothing puts it anywhere; some readers
            (transformers 4) cannot open a file without one.
        greedy: whether answers are meant to be the likeliest: clients sample at 0.8 by default.
        extra: further string keys, such as hashes of the contract and the chat template.
    """

    name: str
    end_id: int | None = None
    other_end_id: int | None = None
    add_bos: bool | None = None
    begin_id: int | None = None
    greedy: bool = False
    extra: Mapping[str, str] = field(default_factory=dict)


def make_converter(architecture: str, header: GgufHeader) -> type[Any]:
    """Return llama.cpp's converter class with our vocabulary and header."""
    parent = load_conversion().get_model_class(architecture)

    class Converter(parent):  # type: ignore[misc, valid-type]
        model_arch = parent.model_arch

        def index_tensors(self, remote_hf_model_id: str | None = None) -> Any:
            """Read the model's own files: the parent takes every ``model*.safetensors``."""
            checkpoint = Checkpoint(self.dir_model)
            if not checkpoint.beside and not (self.dir_model / INDEX).is_file():
                return super().index_tensors(remote_hf_model_id)
            lazy = sys.modules["conversion.base"].LazyTorchTensor
            tensors = {}
            for file in checkpoint.files:
                with gguf.utility.SafetensorsLocal(file) as part:
                    for name in part.keys():  # noqa: SIM118 - it is no dict
                        make = partial(lazy.from_local_tensor, part[name])
                        if kept := self.filter_tensors((name, make)):
                            tensors[kept[0]] = kept[1]
            return tensors

        def set_vocab(self) -> None:
            if self._needs_scores:
                self._set_vocab_sentencepiece()
            else:
                super().set_vocab()
            _set_ends(self.gguf_writer, header)

        def _create_vocab_sentencepiece(self) -> Any:
            if not self._needs_scores:
                return super()._create_vocab_sentencepiece()
            read = gguf_vocab.read_sentencepiece(self.dir_model, self.hparams["vocab_size"])
            self.gguf_writer.add_add_space_prefix(read.space_prefix)
            return read.tokens, read.scores, read.types

        @cached_property
        def _needs_scores(self) -> bool:
            if (self.dir_model / "tokenizer.model").is_file():
                return False
            return gguf_vocab.is_sentencepiece(gguf_vocab.read_tokenizer(self.dir_model))

        def get_vocab_base_pre(self, tokenizer: Any) -> str:
            name = find_pre_tokenizer(self.dir_model, tokenizer)
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
    named = any(gguf.Keys.Tokenizer.BOS_ID in keys for keys in writer.kv_data)
    if header.begin_id is not None and not named:
        writer.add_bos_token_id(header.begin_id)
    if header.greedy:
        writer.add_sampling_temp(0.0)
    for key, value in header.extra.items():
        writer.add_string(key, value)


def find_pre_tokenizer(folder: Path, tokenizer: Any = None) -> str | None:
    """Name the pre-tokenizer by the converter's own table of hashes, else by its regex."""
    conversion = load_conversion()
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
def load_conversion() -> ModuleType:
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
