"""The search problem of a GGUF file: its matrices, and llama.cpp's types for all the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from edgetune.quantize.calibration.activations import ActivationStats
from edgetune.quantize.candidates import Candidates
from edgetune.quantize.formats.llama_quantize import stock_types
from edgetune.quantize.formats.types import GGUF
from edgetune.quantize.methods.gptq import find_readers
from edgetune.quantize.row_order import order_like
from edgetune.quantize.search.problem import SearchProblem, SearchSettings, count_parameters
from edgetune.quantize.search.skeleton import Skeleton, count_gguf
from edgetune.quantize.weights import find_weights
from edgetune.runtimes.gguf_header import GgufFile

#: Schemes that stand beside the search's own points in the report, and that it must not lose to.
STOCK = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M")
FIXED_LIKE = "Q8_0"  # the mix whose types the tensors get that are not searched


@dataclass(frozen=True)
class GgufSource:
    """The model as a GGUF file.

    Attributes:
        file: in F32.
        architecture: llama.cpp's name of it.
        layers: how many the model has.
        activations: statistics of the matrices' inputs, by module; none without an importance
            matrix.
        importance: the same by tensor, for llama.cpp's own mixes.
        count_header: (scheme, the type of each tensor) to the bytes before the first tensor of
            that file; absent, those of ``file`` are taken.
    """

    file: GgufFile
    architecture: str
    layers: int
    activations: ActivationStats | None = None
    importance: Mapping[str, np.ndarray] = field(default_factory=dict)
    count_header: Callable[[str, Mapping[str, str]], int] | None = None

    def header_bytes(self, scheme: str, types: Mapping[str, str]) -> int:
        """Return the bytes before the first tensor of the file of a scheme."""
        if self.count_header is None:
            return min(tensor.offset for tensor in self.file.tensors.values())
        return self.count_header(scheme, types)


def build_gguf_problem(source: GgufSource, settings: SearchSettings) -> SearchProblem:
    """Return the search problem of a GGUF file.

    GPTQ is for tensors whose rows the file has as they are or in another order.
    """
    file, model = source.file, settings.model
    shapes = {name: tuple(tensor.shape) for name, tensor in file.tensors.items()}
    weights = find_weights(model, source.architecture, source.layers, shapes, source.activations)
    readers = {}
    if settings.hessians:
        ordered = [w for w in weights if order_like(file.read(w.tensor), w.read(model)) is not None]
        readers = find_readers(model, ordered)
    candidates = Candidates(model, weights, settings.scratch / "candidates", GGUF, readers)

    def mix_of(scheme: str) -> dict[str, str]:
        return stock_types(file.path, scheme, source.importance).types

    stock = {scheme: mix_of(scheme) for scheme in STOCK}
    likes = {budget.like for budget in settings.budgets if budget.like} - set(stock)
    sizes = {
        scheme: source.header_bytes(scheme, mix) + count_gguf(file, mix)
        for scheme, mix in (stock | {like: mix_of(like) for like in likes}).items()
    }
    fixed = {n: k for n, k in stock[FIXED_LIKE].items() if n not in candidates.weights}
    header = source.header_bytes("", dict.fromkeys(candidates.weights, GGUF.names[-1]))
    overhead = header + count_gguf(file, fixed)
    skeleton = Skeleton(fixed, overhead, count_parameters(model), header, sizes)
    return SearchProblem(candidates, skeleton, stock)
