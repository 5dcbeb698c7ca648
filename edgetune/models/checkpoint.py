"""The weights of a model folder: the files that its index, or the single file's name, names.

``*.safetensors`` says too much: leftovers, ``consolidated.safetensors``, an older shard set and an
adapter may lie beside the weights. Everything that reads, counts, hashes or copies weights asks
here, so that all read what transformers reads.
"""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.resolve import TOKENIZER_FILES, check_safetensors, read_header, read_json

if TYPE_CHECKING:
    import torch

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_DESCRIPTIONS = (".json", ".jinja", ".model", ".txt")
_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
# `model.layers.3.mlp…` (Llama and its kin), `transformer.h.3.mlp…` (GPT-2)
_LAYER = re.compile(r"^(?P<stack>(?:.*?\.)??(?:layers|h|blocks))\.(?P<number>\d+)\.")
_OTHER_STACKS = re.compile(r"vision|visual|audio|mtp|encoder")  # those of other towers and heads


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of one tensor.

    Attributes:
        file: where it lies.
        dtype: ``F32``, ``BF16`` …
        shape: outermost dimension first.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]


class Checkpoint:
    """The weight files of a folder.

    transformers takes ``model.safetensors`` where it is there, else what
    ``model.safetensors.index.json`` lists; ``transformers_weights`` in config.json names another
    file (its ``_get_resolved_checkpoint_files``). The same is done here.

    Attributes:
        folder: the model folder.
        files: what is read, sorted.
        beside: names of weight and adapter files that lie there and are not read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = _find_files(folder)
        read = {file.name for file in self.files}
        self.beside = sorted(
            path.name
            for path in folder.iterdir()
            if path.name not in read
            and (path.suffix == ".safetensors" or path.name in ADAPTER_FILES)
        )

    @cached_property
    def headers(self) -> dict[str, Header]:
        """Each tensor's name to where it lies and its shape, without reading it.

        Raises:
            InputError: a name that two files hold, or one of the index that no file holds.
        """
        found: dict[str, Header] = {}
        for file in self.files:
            for name, entry in read_header(file).items():
                if name in found:
                    raise InputError(
                        f"the tensor '{name}' is in {found[name].file.name} and in {file.name}",
                        where=str(self.folder),
                        hint="remove the file that does not belong, and its line of the index",
                    )
                found[name] = Header(file, str(entry["dtype"]), tuple(entry["shape"]))
        return found

    @property
    def bytes(self) -> int:
        """What the files take on disk."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def count(self) -> int:
        """How many weights there are; a tied head is stored, and counted, once."""
        return sum(math.prod(header.shape) for header in self.headers.values())

    def names(self) -> list[str]:
        """Return the tensors' names."""
        return list(self.headers)

    def read(self, name: str) -> torch.Tensor:
        """Return a tensor in the dtype it is stored in."""
        from safetensors import safe_open

        # Opened for each tensor: pages that stay mapped would count as memory in use.
        with safe_open(self.headers[name].file, "pt") as file:
            return file.get_tensor(name)  # type: ignore[no-any-return]

    def check(self) -> None:
        """Refuse files that are not whole, and an index or configuration that says otherwise.

        Raises:
            InputError: it names the file, the tensor or the layers.
        """
        for file in self.files:
            check_safetensors(file)
        index = self.folder / INDEX
        if self.files[0].name != SINGLE and index.is_file():
            listed = read_json(index, "")["weight_map"]
            absent = [name for name in listed if name not in self.headers]
            if absent:
                raise InputError(
                    f"{INDEX} lists '{absent[0]}' in {listed[absent[0]]}, which does not hold it",
                    where=str(self.folder),
                    hint="copy the model again, index and shards together",
                )
        self._check_depth(read_json(self.folder / "config.json", "a model has a config.json"))

    def _check_depth(self, config: dict[str, Any]) -> None:
        """Refuse weights of fewer or more decoder layers than the configuration has."""
        text = config.get("text_config") or config
        depth = next((text[key] for key in _DEPTHS if isinstance(text.get(key), int)), None)
        stacks: dict[str, set[int]] = {}
        for name in self.headers:
            match = _LAYER.match(name)
            if match and not _OTHER_STACKS.search(match["stack"]):
                stacks.setdefault(match["stack"], set()).add(int(match["number"]))
        if depth is None or not stacks:
            return
        numbers = max(stacks.values(), key=len)
        spare = text.get("num_nextn_predict_layers") or 0  # heads that predict further tokens
        missing = sorted(set(range(depth)) - numbers)
        more = sorted(number for number in numbers if number >= depth + spare)
        if missing or more:
            content = (
                f"no weights for layer {missing[0]}" if missing else f"weights of {len(numbers)}"
            )
            raise InputError(
                f"config.json has {depth} layers, and the files hold {content}",
                where=str(self.folder),
                hint="use the config.json that belongs to these weights",
            )

    def say_beside(self, log: Log) -> None:
        """Warn of weight and adapter files that lie in the folder and are not read."""
        if self.beside:
            log.warn(
                f"{self.folder}: {', '.join(self.beside)} left unread; the model's weights are "
                f"{self.files[0].name if len(self.files) == 1 else f'the files in {INDEX}'}"
            )


def check_model_folder(folder: Path) -> dict[str, Any]:
    """Return ``config.json`` of a folder that holds a whole model.

    Raises:
        InputError: a missing or unreadable config, tokenizer or weights; pickled weights; weights
            that are not those that the configuration describes.
    """
    config = read_json(folder / "config.json", "a model folder has a config.json")
    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        raise InputError(
            "no tokenizer in this model folder", where=str(folder), hint="copy tokenizer.json here"
        )
    if "auto_map" in config and not config.get("model_type"):
        raise InputError("this model needs code of its own, which is not run", where=str(folder))
    Checkpoint(folder).check()
    return config


def _find_files(folder: Path) -> list[Path]:
    single, index = folder / SINGLE, folder / INDEX
    named = _named_file(folder)
    if named is not None:
        single = index = folder / named
        if not named.endswith(".json"):
            index = folder / "-"
    if single.is_file() and single.suffix == ".safetensors":
        return [single]
    if index.is_file():
        return _listed_files(index)
    pickled = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickled:
        raise InputError(
            f"weights are pickled ({pickled[0]}); a pickle can run code, so it is not opened",
            where=str(folder),
            hint="convert it to safetensors first, on a machine you can lose",
        )
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    wanted = named or f"{SINGLE} or {INDEX}"
    raise InputError(
        f"no {wanted} in this model folder" + (f", but {', '.join(others[:3])}" if others else ""),
        where=str(folder),
        hint="an adapter is not a model: name its base, and give it as --adapter"
        if others and others[0].startswith("adapter")
        else "weights are read from the file of that name, or from those that the index lists",
    )


def _named_file(folder: Path) -> str | None:
    """Return the file that config.json names for the weights, if it does."""
    path = folder / "config.json"
    if not path.is_file():
        return None
    named = read_json(path, "").get("transformers_weights")
    if named is None:
        return None
    if not isinstance(named, str) or Path(named).name != named:
        raise InputError(
            f"transformers_weights is {named!r}, which is no file of this folder", where=str(path)
        )
    return named


def _listed_files(index: Path) -> list[Path]:
    """Return the files that an index lists, which must be there."""
    listed = read_json(index, "an index lists its tensors' files").get("weight_map")
    names = sorted(set(listed.values())) if isinstance(listed, dict) else []
    if not names or not all(isinstance(one, str) and Path(one).name == one for one in names):
        raise InputError("this index has no weight_map of file names", where=str(index))
    absent = [name for name in names if not (index.parent / name).is_file()]
    if absent:
        raise InputError(
            f"{absent[0]} is missing; the index names {len(names)} files",
            where=str(index),
            hint="copy the model again, index and shards together",
        )
    return [index.parent / name for name in names]


def copy_description(folder: Path, out: Path) -> None:
    """Copy what describes a model: configuration, tokenizer, template; no weights, no index.

    An adapter's files stay behind: transformers would apply it to whatever lies beside it.
    """
    for path in folder.iterdir():
        names_weights = path.name.endswith(".index.json") or path.name in ADAPTER_FILES
        if path.is_file() and path.suffix in _DESCRIPTIONS and not names_weights:
            shutil.copy(path, out / path.name)


@contextmanager
def plain_folder(folder: Path) -> Iterator[Path]:
    """Yield a model folder without the other files beside the model, which a library would read.

    That is the folder itself where nothing does, else one of links that is removed again.
    """
    checkpoint = Checkpoint(folder)
    if not checkpoint.beside:
        yield folder
        return
    with tempfile.TemporaryDirectory() as scratch:
        for path in folder.iterdir():
            if path.name not in checkpoint.beside:
                (Path(scratch) / path.name).symlink_to(path.resolve())
        yield Path(scratch)
