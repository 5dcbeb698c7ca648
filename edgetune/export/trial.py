"""Trial files: what export would write for given types, run in a child process and deleted.

Tensors are written from the bytes that a search has made of them already; they are those that
export makes (``tests/export/test_trial.py`` compares the files).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgetune.errors import InputError
from edgetune.export.gguf.write import Quantization, write_gguf
from edgetune.export.onnx.build import write_weights
from edgetune.export.onnx.frame import Frame
from edgetune.measure.footprint import Footprint, measure_file
from edgetune.quantize.candidates import Candidates
from edgetune.quantize.formats.nbits import quantize_nbits
from edgetune.quantize.plan import settings_of
from edgetune.quantize.row_order import order_like
from edgetune.quantize.search.device import Measure
from edgetune.recipe import Requests
from edgetune.runtimes.gguf_header import GgufFile

#: Writes the file of some types to a path.
Write = Callable[[Path, Mapping[str, str]], None]


class Trials:
    """Runs trial files.

    Args:
        folder: where they lie while they are run; what a killed run left there is dropped.
        requests: what they are asked, and how often.
        prompt: token ids of each request.

    Raises:
        InputError: answers of a single token, which have no time from token to token.
    """

    def __init__(self, folder: Path, requests: Requests, prompt: Sequence[int]) -> None:
        if requests.new_tokens < 2:
            raise InputError(
                "an answer of one token has no time from token to token",
                where="bench.new_tokens",
                hint="2 or more, where a target is ram= or tpot=",
            )
        self._folder, self._requests, self._prompt = folder, requests, prompt

    def run_by(
        self, make_writer: Callable[[Candidates], Write], suffix: str = ""
    ) -> Callable[[Candidates], Measure]:
        """Return what makes, of candidates, what runs files of their types.

        Args:
            make_writer: one of those below, all but the candidates given.
            suffix: of the files' names, by which their runtime is found.
        """
        return lambda candidates: partial(self.measure, make_writer(candidates), suffix)

    def measure(
        self, write: Write, suffix: str, mixes: Sequence[Mapping[str, str]], runs: int
    ) -> list[list[Footprint]]:
        """Return what the file of each mix of types took, ``runs`` times, by turns there and back.

        Args:
            write: writes a file of some types.
            suffix: of its name.
            mixes: the type of every tensor of each file.
            runs: of each file, a process each.
        """
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        paths = [self._folder / f"{number}{suffix}" for number in range(len(mixes))]
        for path, types in zip(paths, mixes, strict=True):
            write(path, types)
        found: list[list[Footprint]] = [[] for _ in paths]
        for turn in range(runs):
            numbers = range(len(paths))
            for number in numbers if turn % 2 == 0 else reversed(numbers):
                found[number].append(measure_file(paths[number], self._requests, self._prompt))
        shutil.rmtree(self._folder)
        return found


def gguf_writer(
    source: GgufFile, importance: Mapping[str, np.ndarray], model: Any, candidates: Candidates
) -> Write:
    """Return what writes GGUF files of other types.

    Args:
        source: the model as an F32 file.
        importance: by tensor; for those that are not searched.
        model: in torch; llama.cpp's converter puts the rows of some of its matrices in other order.
        candidates: the bytes of every type.
    """
    orders: dict[str, np.ndarray | None] = {}

    def write(path: Path, types: Mapping[str, str]) -> None:
        for name, weight in candidates.weights.items():
            if name not in orders:
                orders[name] = order_like(source.read(name), weight.read(model))
        ready = {
            name: np.ascontiguousarray(candidates.load(name, types[name])[order])
            for name, order in orders.items()
            if order is not None
        }
        write_gguf(source, path, Quantization("trial", types, importance, ready))

    return write


def onnx_writer(
    frame: Frame, importance: Mapping[str, np.ndarray], candidates: Candidates
) -> Write:
    """Return what writes ONNX folders of other types.

    Args:
        frame: the model as an ONNX graph.
        importance: by GGUF tensor; for nodes that are not searched.
        candidates: the bytes of every type, by node.
    """

    def pack(
        types: Mapping[str, str], matrix: np.ndarray, kind: str, weighed: Any, name: str
    ) -> np.ndarray:
        if types.get(name) == kind:
            return candidates.load(name, kind)
        return quantize_nbits(matrix, kind, weighed, name)

    def write(path: Path, types: Mapping[str, str]) -> None:
        settings = settings_of(types)
        write_weights(frame, path, settings, importance, partial(pack, types))

    return write
